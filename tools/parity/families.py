"""Both families at middle size, random weights in the true block structure with heads of 64: `drpo sample` against the stock pipelines of
diffusers, and a LoRA trained by `drpo train` for one update, loaded by diffusers and PEFT in every exported form."""

import os
import sys

import numpy as np
import torch
from common import ROOT, check, check_at_least, drpo, finish, prompt_flags, read_pictures
from safetensors.torch import load_file

sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))
from random_models import MID, build, one_step  # noqa: E402

PROMPTS = ["a photo of a red circle and a blue star", "three green hearts, a square and a kite!"]
SEED, COUNT, WIDER = 5, 2, 192

work = sys.argv[1]


def load(folder):
    from diffusers import DiffusionPipeline

    more = {"safety_checker": None, "requires_safety_checker": False} if folder.endswith("sd") else {"add_watermarker": False}
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, output_type, side):
    """Picture after picture, as `drpo sample --rng torch` numbers their seeds."""
    images = []
    for prompt in PROMPTS:
        for seed in range(SEED, SEED + COUNT):
            more = dict(generator=torch.Generator().manual_seed(seed), height=side, width=side)
            images.append(one_step(pipe, prompt, output_type, **more)[0])
    return torch.stack(images) if output_type == "latent" else (np.stack(images) * 255).round().astype(np.int64)


def far(mine, theirs):
    """Share of the numbers that are more than 1/255 apart."""
    return float((abs(mine - theirs) > 1).mean())


def sample(model, out, *flags):
    drpo("sample", "--model", model, "--rng", "torch", "--seed", SEED, "--n", COUNT, "--out", out, "--save-latents", out + ".safetensors",
         *flags, *prompt_flags(PROMPTS))  # fmt: skip
    return load_file(out + ".safetensors")["latents"], read_pictures(out)


def check_pipeline(name, model, pipe):
    for side in (8 * MID[name]["side"], WIDER):
        latents, pictures = sample(model, f"{work}/{name}-{side}", "--resolution", side)
        theirs = draw(pipe, "latent", side)
        check(f"{name} at {side}: latents, relative", float((latents - theirs).norm() / theirs.norm()), 1e-4)
        check(f"{name} at {side}: share of pixels beyond 1/255", far(pictures, draw(pipe, "np", side)), 0.001)


def with_adapter(name, form, model, run):
    path = f"{work}/{name}-{form}" + (".safetensors" if form in ("diffusers", "kohya") else "")
    drpo("export", run, "--format", form, "--model", model, "--out", path)
    if form == "merged":
        os.rename(path, f"{work}/merged-{name}")
        return load(f"{work}/merged-{name}")
    pipe = load(model)
    if form == "peft":
        from peft import PeftModel

        pipe.unet = PeftModel.from_pretrained(pipe.unet, path)
    else:
        pipe.load_lora_weights(work, weight_name=os.path.basename(path))
    return pipe


def check_lora(name, model):
    run, side = f"{work}/{name}-run", 8 * MID[name]["side"]
    drpo("train", "--model", model, "--steps", 1, "--prompts-per-step", 1, "--candidates", 4, "--positives", 1, "--negatives", 1, "--lr", 0.05,
         "--lr-schedule", "constant", "--warmup", 0, "--lora-rank", 4, "--lora-alpha", 6, "--eval-every", 0, "--seed", 3, "--out", run,
         "--reward", "exec:" + sys.executable + " " + os.path.join(ROOT, "examples", "rewards", "redness.py?images=rgb"),
         "--features", "latent?keys=latent_mean_2,latent_std_2")  # fmt: skip
    base = draw(load(model), "np", side)
    _, tuned = sample(model, f"{work}/{name}-tuned", "--lora", run + "/final")
    check_at_least(f"{name}: largest change that one update makes", int(abs(tuned - base).max()), 16, "/255")
    for form in ("peft", "diffusers", "kohya", "merged"):
        theirs = draw(with_adapter(name, form, model, run), "np", side)
        # merged weights are stored in float16, as the base's are
        check(f"{name} with the {form} export: share of pixels beyond {4 if form == 'merged' else 1}/255",
              float((abs(tuned - theirs) > (4 if form == "merged" else 1)).mean()), 0.001)  # fmt: skip


for name in ("sd", "sdxl"):
    folder = f"{work}/{name}"
    build(name, folder, MID[name])
    check_pipeline(name, folder, load(folder))
    check_lora(name, folder)
finish()
