"""Times one update of SD-Turbo or SDXL-Turbo at full size in PyTorch: the peer of `drpo bench step --shape`.

    peer_full.py FOLDER --candidates 4 --resolution 256

FOLDER as `drpo bench step --shape sd-turbo|sdxl-turbo` makes it, with its latent feature network.

The reference trainer, channels-last, without gradient checkpointing, with allocator settings that keep pages (keep_memory): the
fastest that plain PyTorch was seen to be. SDXL's text encoders leave memory when the prompt is encoded. Reward, features and the numbers of positives and negatives are those of that command. Prints one
JSON line: median seconds per update, seconds from the start of the process to the first update, and peak resident memory. The first
update is not timed.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "reference"))
import trainer as reference
from trainer import Settings, Trainer

import torch
from tiny.common import CHANNELS_LAST, NOISE, SIGMA, TIMESTEP, keep_memory, process_seconds, to_images, token_ids

PROMPT = "a red fox in the snow"


class BrightTrainer(Trainer):
    def score(self, latents, meta):
        return torch.from_numpy(to_images(self.vae, latents, 1)).double().mean((1, 2, 3))


def feature_keys(side):
    """Of a map that is an eighth of the latents."""
    cells = [""] + [f"_{p}" for p in (2, 4) if side // 8 % p == 0]
    return [f"layer4_{moment}{cell}" for cell in cells for moment in ("mean", "std")]


class Sdxl:
    """Stands in for what the reference trainer does with SD: two text encoders, and a UNet that takes pooled text and sizes."""

    def __init__(self, resolution):
        self.sizes = torch.tensor([[resolution, resolution, 0, 0, resolution, resolution]], dtype=torch.float32)

    def encode_prompt(self, folder):
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        states = []
        for number, kind in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
            tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer" + number)
            network = kind.from_pretrained(folder, subfolder="text_encoder" + number, dtype=torch.float32).eval()
            with torch.no_grad():
                out = network(token_ids(tokenizer, [PROMPT]), output_hidden_states=True)
            states.append(out.hidden_states[-2])
        self.text, self.pooled = torch.cat(states, -1), out.text_embeds

    def load_model(self, folder, dtype):
        from diffusers import AutoencoderKL, UNet2DConditionModel

        self.encode_prompt(folder)
        networks = [AutoencoderKL.from_pretrained(folder, subfolder="vae"), UNet2DConditionModel.from_pretrained(folder, subfolder="unet")]
        return [n.to(dtype).eval().requires_grad_(False).to(memory_format=CHANNELS_LAST) for n in networks] + [None, None]

    def one_step(self, unet, noise, text):
        n = len(noise)
        added = {"text_embeds": self.pooled.expand(n, -1), "time_ids": self.sizes.expand(n, -1)}
        latents = (noise * NOISE).contiguous(memory_format=CHANNELS_LAST)
        return SIGMA * (noise - unet(latents, TIMESTEP, text, added_cond_kwargs=added).sample)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    k, side = options.candidates, options.resolution // 8
    if os.path.exists(os.path.join(options.folder, "text_encoder_2")):
        sdxl = Sdxl(options.resolution)
        reference.load_model, reference.one_step = sdxl.load_model, sdxl.one_step
        BrightTrainer.encode = lambda self, prompts: sdxl.text.expand(len(prompts), -1, -1)
    features = {os.path.abspath(os.path.join(options.folder, "features")): feature_keys(side)}
    picked = max(1, k // 3)
    trainer = BrightTrainer(
        Settings(model=options.folder, candidates=k, positives=picked, negatives=picked, lambda_ref=0.5, features=features)
    )
    del trainer.vae.encoder
    draw = torch.Generator().manual_seed(0)
    started = process_seconds()
    seconds = []
    for _ in range(options.steps + 1):
        noise = torch.randn(1, k, 4, side, side, generator=draw)
        start = time.perf_counter()
        trainer.update([{"prompt": PROMPT}], noise)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = {"median_seconds_per_update": median, "images_per_second": k / median, "start_seconds": started, "peak_bytes": peak}
    print(json.dumps({"program": "pytorch", **row}))


main()
