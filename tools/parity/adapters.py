"""Every exported form of a trained adapter, loaded by diffusers and PEFT, gives the pictures that `drpo sample --lora` gives."""

import os
import sys

from common import MODEL, check, check_at_least, drpo, finish, pipeline, prompt_flags, read_pictures, run_pipeline

PROMPTS = ["a photo of a star", "a photo of a red circle and a blue star"]
SEED, COUNT = 11, 3

work = sys.argv[1]
run, seeds = work + "/run", range(SEED, SEED + COUNT)


def sample(name, *flags):
    drpo(
        "sample",
        "--model",
        MODEL,
        "--rng",
        "torch",
        "--seed",
        SEED,
        "--n",
        COUNT,
        "--out",
        f"{work}/{name}",
        *flags,
        *prompt_flags(PROMPTS),
    )
    return read_pictures(f"{work}/{name}")


def exported(form):
    path = f"{work}/{form}" + (".safetensors" if form in ("diffusers", "kohya") else "")
    drpo("export", run, "--format", form, "--model", MODEL, "--out", path)
    return path


def with_peft(path):
    from peft import PeftModel

    pipe = pipeline()
    pipe.unet = PeftModel.from_pretrained(pipe.unet, path)
    return pipe


def with_diffusers(path):
    pipe = pipeline()
    pipe.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
    return pipe


# a large learning rate for a few updates: the adapter must change the pictures plainly
drpo("train", "--model", MODEL, "--steps", 4, "--prompts-per-step", 2, "--candidates", 6, "--positives", 2, "--negatives", 2, "--lr", 0.01,
     "--lr-schedule", "constant", "--warmup", 0, "--lora-rank", 4, "--lora-alpha", 6, "--eval-every", 0, "--seed", 3, "--out", run)  # fmt: skip
tuned = sample("tuned", "--lora", run + "/final")
check_at_least("largest change that the adapter makes", int(abs(tuned - sample("base")).max()), 32, "/255")
loaders = {"peft": with_peft, "diffusers": with_diffusers, "kohya": with_diffusers, "merged": pipeline}
for form, load in loaders.items():
    pictures = run_pipeline(load(exported(form)), PROMPTS, seeds)
    check(f"pictures with the {form} export", int(abs(tuned - pictures).max()), 2, "/255")
check(
    "pictures with RUN/final as a PEFT folder", int(abs(tuned - run_pipeline(with_peft(run + "/final"), PROMPTS, seeds)).max()), 2, "/255"
)
finish()
