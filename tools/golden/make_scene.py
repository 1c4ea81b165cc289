"""Golden files of the scene verifier: pictures, metadata, and the verdicts of the Python original.

    python3 tools/golden/make_scene.py

Writes tests/golden/scene/scene.safetensors: rgb [n,64,64,3] 8-bit, correct [n], soft [n], and metadata "task<i>" with the
metadata of picture i. Half are drawn scenes (some judged by a wrong caption), half outputs of the shipped generator with random
noise, whose blurred and broken shapes exercise the thresholds.
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

DRAWN, GENERATED = 40, 40


def drawn():
    """A third show their caption, a third contradict it as the training captions do, a third are judged by another caption."""
    rng, noise = random.Random(11), np.random.default_rng(11)
    for i in range(DRAWN):
        task = captions.random_caption(rng)
        picture = render.render(coupling.scene_from_noise(task, noise.standard_normal((4, 16, 16)), noisy=i % 3 == 1))
        yield np.round(picture * 255).astype(np.uint8), captions.random_caption(rng) if i % 3 == 2 else task


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
    cases = list(drawn()) + list(generated())
    correct, soft = [], []
    for rgb, task in cases:
        found = verifier.detect(rgb.astype(np.float32) / 255)
        correct.append(verifier.correct(found, task))
        soft.append(verifier.soft(found, task))
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
