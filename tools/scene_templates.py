"""Writes src/step/reward/scene_templates.c from assets/scene_templates.json.

    python3 tools/scene_templates.py

The JSON holds the mean silhouette of each shape of the embedded world on a 16x16 grid, drawn by its own renderer. Stored in the
program: each template minus its mean, divided by its norm, so that a correlation is one dot product.
"""

import json
import os

import numpy as np

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))

HEAD = """/* Silhouettes of the eight shapes on a {grid}x{grid} grid, row-major, minus their mean and divided by their norm.
 *
 * Written by tools/scene_templates.py from assets/scene_templates.json (mean coverage of shapes drawn by the embedded
 * world's renderer at several sizes and offsets). Do not edit: change the JSON and run the script. */
#include "step/reward/scene_internal.h"

/* clang-format off */
const float SCENE_TEMPLATES[SCENE_SHAPES][SCENE_GRID * SCENE_GRID] = {{
"""


def main():
    source = json.load(open(os.path.join(ROOT, "assets", "scene_templates.json")))
    grid, shapes = source["grid"], source["shapes"]
    table = np.array(source["templates"], np.float32).reshape(len(shapes), grid * grid)
    table = table - table.mean(1, keepdims=True)
    table = table / np.sqrt((table * table).sum(1, keepdims=True))
    with open(os.path.join(ROOT, "src", "step", "reward", "scene_templates.c"), "w") as out:
        out.write(HEAD.format(grid=grid))
        for shape, row in zip(shapes, table):
            out.write(f"    {{ /* {shape} */\n")
            for start in range(0, grid * grid, 8):
                out.write("        " + " ".join(f"{v:.8e}f," for v in row[start : start + 8]) + "\n")
            out.write("    },\n")
        out.write("};\n/* clang-format on */\n")


if __name__ == "__main__":
    main()
