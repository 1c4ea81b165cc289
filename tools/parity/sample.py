"""`drpo sample --rng torch` against the stock pipeline with torch's generator: same noise, latents and pictures."""

import sys

import torch
from common import MODEL, check, drpo, finish, pipeline, prompt_flags, read_pictures, run_pipeline
from safetensors.torch import load_file

PROMPTS = ["a photo of a star", "a photo of a red circle and a blue star", "a photo of three hearts"]
SEED, COUNT = 7, 3

work = sys.argv[1]
seeds = range(SEED, SEED + COUNT)
drpo("sample", "--model", MODEL, "--rng", "torch", "--seed", SEED, "--n", COUNT, "--out", work + "/pictures",
     "--save-latents", work + "/latents.safetensors", *prompt_flags(PROMPTS))  # fmt: skip
mine = load_file(work + "/latents.safetensors")
pipe = pipeline()
noise = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(s)) for _ in PROMPTS for s in seeds])
latents = run_pipeline(pipe, PROMPTS, seeds, "latent")
check("noise is torch.randn's", float((mine["noise"] - noise).abs().max()), 1e-6)
check("latents of the stock pipeline, relative", float((mine["latents"] - latents).norm() / latents.norm()), 1e-4)
pictures = run_pipeline(pipe, PROMPTS, seeds)
check("pictures of the stock pipeline", int(abs(read_pictures(work + "/pictures") - pictures).max()), 2, "/255")

# one generator for several pictures, as a call with num_images_per_prompt or with a list of prompts draws them
for name, calls in (("prompt", [[p] for p in PROMPTS]), ("run", [PROMPTS])):
    drpo("sample", "--model", MODEL, "--rng", "torch", "--seed", SEED, "--n", COUNT, "--generator", name, "--out", work + "/" + name,
         "--save-latents", f"{work}/{name}.safetensors", *prompt_flags(PROMPTS))  # fmt: skip
    latents = [pipe(call, num_images_per_prompt=COUNT, num_inference_steps=1, guidance_scale=0.0, height=64, width=64, output_type="latent",
                    generator=torch.Generator().manual_seed(SEED)).images for call in calls]  # fmt: skip
    latents, mine = torch.cat(latents), load_file(f"{work}/{name}.safetensors")["latents"]
    check(f"latents of one generator for a {name}, relative", float((mine - latents).norm() / latents.norm()), 1e-4)
finish()
