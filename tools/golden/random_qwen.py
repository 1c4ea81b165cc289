"""HPSv3 with any weights, for golden files and parity checks: its tokenizer, its pictures, and its score by transformers' Qwen2-VL."""

import json
import os

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>"]
REWARD = "<|Reward|>"
MERGE = 2


def picture(seed, height, width):
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = np.stack([127 + 90 * np.sin(x / (3 + c + seed) + seed) * np.cos(y / (5 + c)) for c in range(3)], -1)
    return np.clip(waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)


def resize(pixels, width, height):
    """Rows, then columns: the order of Pillow before 13, which public scores were made with."""
    return Image.fromarray(pixels).resize((width, pixels.shape[0]), Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)


def open_tokenizer(folder):
    with open(os.path.join(folder, "vocab.json")) as f:
        vocab = json.load(f)
    with open(os.path.join(folder, "merges.txt")) as f:
        merges = [tuple(line.rstrip("\n").split(" ")) for line in f if line.strip() and not line.startswith("#version")]
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    return tokenizer


def add_reward(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": [REWARD]}, replace_extra_special_tokens=False)
    return tokenizer


def old_name(name):
    """Names as transformers 4.45 wrote them."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def head(layers, h):
    (w0, b0), (w3, b3), (w5, b5) = layers
    return torch.relu(torch.relu(h @ w0.T + b0) @ w3.T + b3) @ w5.T + b5


def resized_size(height, width, pixels, unit):
    """Both limits are equal in HPSv3."""
    h, w = max(unit, round(height / unit) * unit), max(unit, round(width / unit) * unit)
    beta = (height * width / pixels) ** 0.5
    if h * w > pixels:
        h, w = max(unit, int(height / beta // unit) * unit), max(unit, int(width / beta // unit) * unit)
    elif h * w < pixels:
        h, w = -int(-height / beta // unit) * unit, -int(-width / beta // unit) * unit
    return h, w


def patches_of(pixels, patch):
    """One resized picture through transformers' processor, whose own resize then finds nothing to do."""
    processor = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=MERGE, temporal_patch_size=2, do_resize=False)
    out = processor(images=[Image.fromarray(pixels)], return_tensors="pt")
    return out["pixel_values"].double(), out["image_grid_thw"]


def run_score(net, layers, tokenizer, pixels, prompt, patch, questions):
    unit = patch * MERGE
    h, w = resized_size(*pixels.shape[:2], 256 * unit * unit, unit)
    resized = np.asarray(resize(pixels, w, h))
    patches, grid = patches_of(resized, patch)
    image = net.model.visual(patches.to(net.dtype), grid_thw=grid)
    image = getattr(image, "pooler_output", image)
    chat = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * image.shape[0]
    chat += "<|vision_end|>" + questions.replace("{text_prompt}", prompt) + "<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer(chat).input_ids])
    states = net.model.language_model.embed_tokens(ids)
    states[ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")] = image
    position = torch.arange(ids.shape[1]).expand(3, 1, -1)
    hidden = net.model.language_model(inputs_embeds=states, position_ids=position).last_hidden_state
    at = (ids[0] == tokenizer.convert_tokens_to_ids(REWARD)).nonzero()
    assert at.shape[0] == 1
    return head(layers, hidden[0, at[0, 0]].to(layers[0][0].dtype))
