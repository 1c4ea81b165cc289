"""One update of SD-Turbo at full size, random weights: every LoRA gradient of `drpo train` beside the reference trainer in PyTorch.

    DRPO=build/release/drpo FULL_MODEL=FOLDER tools/parity/run.sh fullsize

FOLDER is what tools/fullsize/make_model.py wrote; without it one is written into the scratch folder (2.6 GB). The update is the released
trainer's: four-digit constants of the one step (--x0 released), drift toward the best and away from the worst, reference term of weight
0.2 with a candidate's own reference masked among the repellers, losses of all feature keys added. Needs about 8 GB of memory."""

import os
import subprocess
import sys

import torch
from common import ROOT, check, check_at_least, drpo, finish
from safetensors.torch import load_file, save_file
from tiny.common import TIMESTEP, to_images

import trainer as reference  # below the folder that `common` adds

SIDE, CANDIDATES, RANK, ALPHA = 256, int(os.environ.get("FULL_CANDIDATES", 3)), 16, 16.0
PROMPT = "a red fox in the snow"
FEATURES = {"latent": ["latent_mean_8", "latent_std_8"], "tiny-mae": ["layer4_mean", "layer4_std"]}

work = sys.argv[1]
model = os.environ.get("FULL_MODEL") or work + "/sd-turbo"
if not os.path.exists(model):
    subprocess.run([sys.executable, ROOT + "/tools/fullsize/make_model.py", "sd-turbo", model], check=True)


def released_step(unet, noise, text):
    e = unet(noise, TIMESTEP, text).sample
    return (noise - 0.9977 * e) / 0.0683 * 0.9996 + 0.0292 * e


def redness(pictures):
    """What examples/rewards/redness.c gives for [N,H,W,3] in [0,1]."""
    red, green, blue = torch.from_numpy(pictures).double().mean((1, 2)).unbind(1)
    return red - (green + blue) / 2


def write_start(path, peft_names, draw):
    """An adapter whose both halves are random: from zeros, half of the gradients would be zero."""
    start = {name: torch.randn(v.shape, generator=draw) * 0.02 for name, v in peft_names.items()}
    save_file(start, path)
    return start


def train(noise):
    save_file({"noise": noise[None, None]}, work + "/noise.safetensors")
    with open(work + "/prompts.txt", "w") as f:
        f.write(PROMPT + "\n")
    features = "+".join(("latent?keys=" if n == "latent" else f"resnet:{n}?keys=") + ",".join(k) for n, k in FEATURES.items())
    drpo("train", "--model", model, "--resolution", SIDE, "--x0", "released", "--prompts", work + "/prompts.txt", "--prompts-per-step", 1,
         "--reward", "plugin:" + os.path.join(os.path.dirname(os.environ["DRPO"]), "redness.so"), "--noise", work + "/noise.safetensors",
         "--lora-init", work + "/start.safetensors", "--lora-rank", RANK, "--lora-alpha", ALPHA, "--candidates", CANDIDATES,
         "--positives", 1, "--negatives", 1, "--lambda-ref", 0.2, "--features", features, "--steps", 1, "--eval-every", 0,
         "--dump-gradients", work + "/gradient.safetensors", "--out", work + "/run")  # fmt: skip
    return {k.removeprefix("grad."): v for k, v in load_file(work + "/gradient.safetensors").items()}


torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
reference.one_step = released_step
settings = reference.Settings(
    model=model, candidates=CANDIDATES, positives=1, negatives=1, lambda_ref=0.2, features=FEATURES, lora_rank=RANK, lora_alpha=ALPHA, steps=1
)
trainer = reference.Trainer(settings)
del trainer.vae.encoder
draw = torch.Generator().manual_seed(9)
trainer.load_lora(dict(write_start(work + "/start.safetensors", trainer.lora(), draw)))
noise = torch.randn(CANDIDATES, 4, SIDE // 8, SIDE // 8, generator=draw)
with torch.no_grad():
    text = trainer.encode([PROMPT]).expand(CANDIDATES, -1, -1)
    scores = redness(to_images(trainer.vae, released_step(trainer.unet, noise, text), 1))
report = trainer.gradients([{"prompt": PROMPT}], noise[None], scores[None])
exact, norms = report["gradient"], {k: float(v.norm()) for k, v in report["gradient"].items()}
del trainer

found = train(noise)
check("gradients that only one side has", len(set(exact) ^ set(found)), 0)
check_at_least("adapter gradients", len(exact), 256)
check_at_least("smallest norm of a gradient, relative to the largest", min(norms.values()) / max(norms.values()), 1e-6)
errors = {k: float((found[k] - exact[k]).norm()) / norms[k] for k in exact if k in found}
worst = max(errors, key=errors.get)
check(f"largest relative error of a gradient ({worst})", errors[worst], 1e-3)
check("median relative error of a gradient", sorted(errors.values())[len(errors) // 2], 1e-4)
finish()
