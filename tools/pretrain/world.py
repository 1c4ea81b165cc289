"""Writes the scene templates and prompt lists of assets/, and measures the verifier on rendered scenes.

python3 world.py write|check
"""

import json
import os
import random
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from tiny import captions
from tiny.captions import COLORS, RELATIONS, SHAPES, TAGS
from tiny.common import PROMPTS
from tiny.coupling import scene_from_noise
from tiny.render import render
from tiny.verifier import GRID, TEMPLATES, make_templates, verify


def _mismatch(meta, rng):
    m = json.loads(json.dumps(meta))
    t = m["tag"]
    inc = m["include"]
    other = lambda x, xs: rng.choice([y for y in xs if y not in x])
    if t == "single_object":
        return captions.cap_single(other([inc[0]["class"]], SHAPES))
    if t == "counting":
        return captions.cap_count(inc[0]["class"], other([inc[0]["count"]], [2, 3, 4]))
    if t == "colors":
        return captions.cap_color(inc[0]["class"], other([inc[0]["color"]], COLORS))
    if t == "two_object":
        return captions.cap_two(inc[0]["class"], other([inc[0]["class"], inc[1]["class"]], SHAPES))
    if t == "position":
        return captions.cap_pos(inc[1]["class"], other([inc[1]["position"][0]], RELATIONS), inc[0]["class"])
    return captions.cap_attr(inc[0]["class"], inc[1]["color"], inc[1]["class"], inc[0]["color"])


def write_assets():
    T = make_templates()
    json.dump({"grid": GRID, "shapes": SHAPES, "templates": [round(float(v), 4) for v in T.reshape(-1)]}, open(TEMPLATES, "w"))
    tr, te = captions.prompt_lists()
    for name, L in (("train", tr), ("test", te)):
        with open(os.path.join(PROMPTS, name + ".jsonl"), "w") as f:
            for m in L:
                f.write(json.dumps(m) + "\n")
    print("train", len(tr), "test", len(te))


def check_verifier(n=600):
    """How often the verifier accepts a rendered scene, its mismatched caption, and a scene with an unreliable caption."""
    rng, nr = random.Random(0), np.random.default_rng(0)
    st = {t: [0, 0, 0, 0.0, 0.0, 0] for t in TAGS}
    t0 = time.time()
    tv = 0
    for i in range(n):
        m = captions.random_caption(rng)
        z = nr.standard_normal((4, 16, 16))
        img = render(scene_from_noise(m, z, noisy=False))
        img = np.round(img * 255) / 255
        t1 = time.time()
        ok, r = verify(img, m)
        tv += time.time() - t1
        ok2, r2 = verify(img, _mismatch(m, rng))
        okn, _ = verify(render(scene_from_noise(m, z, noisy=True)), m)
        s = st[m["tag"]]
        s[0] += 1
        s[1] += ok
        s[2] += ok2
        s[3] += r
        s[4] += r2
        s[5] += okn
    print("verify ms", 1e3 * tv / n, "total s", time.time() - t0)
    for t, s in st.items():
        print(
            f"{t:14s} n {s[0]:4d} correct {s[1]/s[0]:.3f} mismatched {s[2]/s[0]:.3f} reward {s[3]/s[0]:.3f} / {s[4]/s[0]:.3f}  noisy-caption {s[5]/s[0]:.3f}"
        )


if __name__ == "__main__":
    {"write": write_assets, "check": check_verifier}[sys.argv[1]]()
