"""Golden cases of whole pipelines: folders with random weights in the layouts of SD-Turbo and SDXL-Turbo, and what the stock pipelines
draw with them in one step."""

import os

import torch
from safetensors.torch import save_file

from common import GOLDEN
from random_models import BUILDERS, TINY, build, one_step

PROMPTS = ["a photo of a red circle and a blue star", "three green hearts, a square and a kite! " * 12]


def write_case(family):
    folder = os.path.join(GOLDEN, "families", family)
    pipe = build(family, folder, TINY[family])
    side = TINY[family]["side"]
    noise = torch.randn(len(PROMPTS), 4, side, side, generator=torch.Generator().manual_seed(11))
    more = dict(latents=noise, height=8 * side, width=8 * side)
    latents = one_step(pipe, PROMPTS, "latent", **more)
    pictures = torch.from_numpy((one_step(pipe, PROMPTS, "np", **more) * 255).round()).to(torch.uint8)
    assert torch.isfinite(latents).all()
    save_file({"noise": noise, "latents": latents.contiguous(), "pictures": pictures.contiguous()}, os.path.join(folder, "io.safetensors"))
    bytes_ = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files)
    inside = ((pictures > 0) & (pictures < 255)).float().mean()
    print(f"families/{family}: {bytes_ // 1000} kB, {float(inside):.0%} of the pictures not at a limit")


if __name__ == "__main__":
    for family in BUILDERS:
        write_case(family)
