"""Shared by the parity checks: running drpo, loading the pipeline, reading pictures, one line per check."""

import os
import subprocess
import sys

import numpy as np
import torch

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
MODEL = os.path.join(ROOT, "assets", "tiny-turbo")
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.path.insert(0, os.path.join(ROOT, "tools", "reference"))

_failed = []


def report(good, line, name):
    print(("ok " if good else "NOT OK ") + line, flush=True)
    if not good:
        _failed.append(name)


def check(name, value, limit, unit=""):
    """`value` may not exceed `limit`; NaN does."""
    report(bool(value <= limit), f"{name}: {value:.4g}{unit} (limit {limit:.4g}{unit})", name)


def check_at_least(name, value, least, unit=""):
    report(bool(value >= least), f"{name}: {value:.4g}{unit} (at least {least:.4g}{unit})", name)


def finish():
    sys.exit(1 if _failed else 0)


def drpo(*args):
    command = [os.environ["DRPO"], *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def pipeline(folder=MODEL):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_pipeline(pipe, prompts, seeds, output_type="np"):
    """One picture (or latent) for each prompt and seed, prompt by prompt, as `drpo sample --rng torch` numbers them."""
    results = []
    for prompt in prompts:
        for seed in seeds:
            draw = torch.Generator().manual_seed(seed)
            out = pipe(prompt, num_inference_steps=1, guidance_scale=0.0, generator=draw, height=64, width=64, output_type=output_type)
            results.append(out.images[0])
    return torch.stack(results) if output_type == "latent" else (np.stack(results) * 255).round().astype(np.int64)


def read_pictures(folder):
    """8-bit pictures in the order of manifest.jsonl, [N,H,W,3]."""
    import json

    from PIL import Image

    with open(os.path.join(folder, "manifest.jsonl")) as f:
        names = [json.loads(line)["image"] for line in f]
    return np.stack([np.asarray(Image.open(os.path.join(folder, n)).convert("RGB"), np.int64) for n in names])


def prompt_flags(prompts):
    return [flag for p in prompts for flag in ("--prompt", p)]
