"""Golden files of the scene world: noise and captions, and the pictures that the Python original draws of them.

    python3 tools/golden/make_scene_world.py

Writes tests/golden/scene_world/: noise.safetensors (noise [48,4,16,16] in half precision, whole [2,64,64,3] the first two pictures in
single precision), captions.jsonl (line i: the metadata of noise i; odd lines are of unreliable captions) and pictures.png (8 to a row).
"""

import json
import os
import random
import sys

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
from tiny import captions, coupling, render  # noqa: E402

COUNT, COLUMNS = 48, 8
OUT = os.path.join(ROOT, "tests", "golden", "scene_world")

rng, numbers = random.Random(21), np.random.default_rng(21)
noise = numbers.standard_normal((COUNT, 4, 16, 16)).astype(np.float16)
noise[1::4, 3] -= 0.15  # more of the wrong scenes: they are those of small objects
metas = [captions.random_caption(rng) for _ in range(COUNT)]
pictures = np.stack(
    [render.render(coupling.scene_from_noise(m, z.astype(np.float32), noisy=i % 2 == 1)) for i, (m, z) in enumerate(zip(metas, noise))]
)
os.makedirs(OUT, exist_ok=True)
save_file({"noise": noise, "whole": pictures[:2]}, os.path.join(OUT, "noise.safetensors"))
with open(os.path.join(OUT, "captions.jsonl"), "w") as f:
    f.writelines(json.dumps(m) + "\n" for m in metas)
rows = np.round(pictures * 255).astype(np.uint8).reshape(COUNT // COLUMNS, COLUMNS, 64, 64, 3)
Image.fromarray(rows.transpose(0, 2, 1, 3, 4).reshape(COUNT // COLUMNS * 64, COLUMNS * 64, 3)).save(os.path.join(OUT, "pictures.png"), optimize=True)
