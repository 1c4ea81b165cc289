"""Golden files of the scene verifier: pictures, metadata, and the verdicts of the Python original.

    python3 tools/golden/make_scene.py

Writes tests/golden/scene/scene.safetensors: rgb [n,64,64,3] 8-bit, correct [n], soft [n], and metadata "task<i>" with the
metadata of picture i. Drawn scenes (some judged by a wrong caption), outputs of the shipped generator with random noise, and
strained scenes (bent shapes, mixed colours, crowded places) of which those are kept that another threshold would judge otherwise.
"""

import json
import os
import random
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
from tiny import captions, coupling, render, verifier  # noqa: E402

DRAWN, GENERATED, STRAINED_EACH, SEARCHED = 24, 24, 3, 500


def drawn():
    """A third show their caption, a third contradict it as the training captions do, a third are judged by another caption."""
    rng, noise = random.Random(11), np.random.default_rng(11)
    for i in range(DRAWN):
        task = captions.random_caption(rng)
        picture = render.render(coupling.scene_from_noise(task, noise.standard_normal((4, 16, 16)), noisy=i % 3 == 1))
        yield np.round(picture * 255).astype(np.uint8), captions.random_caption(rng) if i % 3 == 2 else task



def judge(task, rgb, dead_band=0.1, **constants):
    """Verdict and partial credit, with some of the verifier's constants replaced."""
    before = {name: getattr(verifier, name) for name in constants}
    relation = verifier.relation
    for name, value in constants.items():
        setattr(verifier, name, value)
    verifier.relation = lambda a, b: relation(a, b, dead_band)
    try:
        found = verifier.detect(rgb.astype(np.float32) / 255)
        return verifier.correct(found, task), verifier.soft(found, task)
    finally:
        verifier.relation = relation
        for name, value in before.items():
            setattr(verifier, name, value)


OTHER_RULES = [{"SHAPE_MIN": 0.90}, {"SHAPE_MIN": 0.94}, {"COLOR_MAX": 0.31}, {"COLOR_MAX": 0.41}, {"dead_band": 0.05},
               {"dead_band": 0.16}, {"FG": 0.16}, {"FG": 0.24}, {"MIN_AREA": 16}, {"MIN_AREA": 34}]


def strain(rng, noise, picture):
    """Mixes the picture with its rolled, tinted and blurred self."""
    other = np.roll(picture, (rng.randint(-3, 3), rng.randint(-3, 3)), (0, 1))
    share = rng.uniform(0, 0.6)
    picture = picture * (1 - share) + other * share
    picture = picture * (1 - rng.uniform(0, 0.45)) + rng.uniform(0, 0.45) * noise.random(3) + 0.02 * noise.standard_normal(picture.shape)
    if rng.random() < 0.5:  # a speck near the smallest size that counts
        y, x, height, width = rng.randint(1, 50), rng.randint(1, 50), rng.randint(3, 7), rng.randint(4, 7)
        picture[y:y + height, x:x + width] = noise.random(3)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def strained():
    rng, noise = random.Random(5), np.random.default_rng(5)
    kept = [0] * len(OTHER_RULES)
    for _ in range(SEARCHED):
        task = captions.random_caption(rng)
        scene = coupling.scene_from_noise(task, noise.standard_normal((4, 16, 16)), noisy=False)
        for o in scene["objects"]:
            o["x"], o["y"] = o["x"] + rng.uniform(-9, 9), o["y"] + rng.uniform(-9, 9)
        rgb = strain(rng, noise, render.render(scene))
        verdict = judge(task, rgb)[0]
        for k, rule in enumerate(OTHER_RULES):
            if kept[k] < STRAINED_EACH and judge(task, rgb, **rule)[0] != verdict:
                kept[k] += 1
                yield rgb, task
                break
        if min(kept) == STRAINED_EACH:
            return
    print("rules with few cases:", kept)


def generated():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        os.path.join(ROOT, "assets", "tiny-turbo"), torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    lines = [json.loads(line) for line in open(os.path.join(ROOT, "assets", "prompts", "test.jsonl"))]
    tasks = [lines[i * len(lines) // GENERATED] for i in range(GENERATED)]
    latents = torch.randn(GENERATED, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    pictures = pipe(
        [t["prompt"] for t in tasks],
        num_inference_steps=1,
        guidance_scale=0.0,
        latents=latents,
        output_type="np",
        height=64,
        width=64,
    ).images
    for picture, task in zip(pictures, tasks):
        yield np.round(picture * 255).astype(np.uint8), task


def main():
    torch.set_num_threads(1)
    cases = list(drawn()) + list(generated()) + list(strained())
    verdicts = [judge(task, rgb) for rgb, task in cases]
    correct, soft = [v[0] for v in verdicts], [v[1] for v in verdicts]
    folder = os.path.join(ROOT, "tests", "golden", "scene")
    os.makedirs(folder, exist_ok=True)
    save_file(
        {"rgb": np.stack([rgb for rgb, _ in cases]), "correct": np.array(correct, np.uint8), "soft": np.array(soft, np.float32)},
        os.path.join(folder, "scene.safetensors"),
        metadata={f"task{i}": json.dumps(t) for i, (_, t) in enumerate(cases)},
    )
    print(len(cases), "pictures,", int(np.sum(correct)), "correct, mean soft score", float(np.mean(soft)))


if __name__ == "__main__":
    main()
