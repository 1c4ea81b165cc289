"""Shared by pretraining, the reference trainer and the parity checks: folders, the one-step formula, loading, pictures."""

import json
import math
import os
import sys
import tempfile
import time

import numpy as np
import torch

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ASSETS = os.path.join(ROOT, "assets")
PROMPTS = os.path.join(ASSETS, "prompts")
MODEL = os.environ.get("TINY_MODEL", os.path.join(ASSETS, "tiny-turbo"))
FIRST = os.path.join(ROOT, "tests", "fixtures", "tiny-turbo")  # the first generator, which golden files are made with
WORK = os.environ.get("TINY_WORK", os.path.join(tempfile.gettempdir(), "tiny"))  # large intermediate files of pretraining
CHANNELS_LAST = torch.channels_last

# SD-Turbo's schedule at t = 999: x_t = ALPHA x0 + NOISE eps. The pipeline's Euler step starts from SIGMA z, feeds NOISE z.
_betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
_kept = torch.cumprod(1 - _betas, 0)[-1].item()
ALPHA, NOISE = math.sqrt(_kept), math.sqrt(1 - _kept)
SIGMA = NOISE / ALPHA
TIMESTEP = 999


def keep_memory():
    """Starts the program again with an allocator that keeps its pages. Without it glibc gives every large tensor back to the
    kernel and page faults cost several times the arithmetic."""
    settings = {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "17179869184",
        "MALLOC_TOP_PAD_": "268435456",
        "MALLOC_ARENA_MAX": "1",
    }
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.environ.update(settings)
        os.execv(sys.executable, [sys.executable] + sys.argv)


def process_seconds():
    """Since this process was started, imports included."""
    with open("/proc/self/stat") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def one_step(unet, noise, text):
    """noise N(0,1) [N,4,16,16] -> clean latents, exactly as the stock pipeline with one step."""
    predicted = unet((noise * NOISE).contiguous(memory_format=CHANNELS_LAST), TIMESTEP, text).sample
    return SIGMA * (noise - predicted)


def to_images(vae, latents, chunk=64):
    """Latents -> pictures [N,64,64,3] of 8-bit values, as float32 in [0,1]."""
    pictures = []
    with torch.no_grad():
        for x in latents.split(chunk):
            y = vae.decode((x / vae.config.scaling_factor).contiguous(memory_format=CHANNELS_LAST)).sample
            pictures.append(((y / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy() / 255.0)
    return np.concatenate(pictures).astype(np.float32)


def load_model(folder=None, dtype=torch.float32):
    """-> vae, unet, text encoder, tokenizer; frozen."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = folder or MODEL
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
    for network in (vae, unet, text):
        network.to(dtype).eval().requires_grad_(False)
    vae.to(memory_format=CHANNELS_LAST)
    unet.to(memory_format=CHANNELS_LAST)
    return vae, unet, text, CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")


def token_ids(tokenizer, prompts):
    length = tokenizer.model_max_length
    return tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def read_jsonl(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def grid_png(pictures, path, columns=8, scale=2):
    from PIL import Image

    rows = [np.concatenate(list(pictures[i : i + columns]), 1) for i in range(0, len(pictures) - columns + 1, columns)]
    image = Image.fromarray((np.concatenate(rows, 0) * 255).astype(np.uint8))
    image.resize((image.width * scale, image.height * scale), 0).save(path)
