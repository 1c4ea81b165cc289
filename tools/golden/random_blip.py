"""ImageReward with any weights, for golden files and parity checks: names, preparation of pictures, head, and transformers' BLIP reading a text."""

import numpy as np
import torch
from random_qwen import resize

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072


def vision_name(name):
    for new, old in (
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding", "pos_embed"),
        ("embeddings.patch_embedding", "patch_embed.proj"),
        ("encoder.layers.", "blocks."),
        ("layer_norm", "norm"),
        ("self_attn.projection", "attn.proj"),
        ("self_attn.qkv", "attn.qkv"),
        ("post_layernorm", "norm"),
    ):
        name = name.replace(new, old)
    return "blip.visual_encoder." + name


def head(layers, x):
    for i in (0, 2, 4, 6, 7):
        x = x @ layers[f"mlp.layers.{i}.weight"].double().T + layers[f"mlp.layers.{i}.bias"].double()
    return x


def read(text, ids, mask, picture_states):
    return text(input_ids=ids, attention_mask=mask, encoder_hidden_states=picture_states, is_decoder=False).last_hidden_state


def prepare(pixels, side):
    """torchvision's Resize and CenterCrop on a PIL picture, ToTensor, Normalize."""
    h, w = pixels.shape[:2]
    wide, high = (side, int(side * h / w)) if w < h else (int(side * w / h), side)
    image = resize(pixels, wide, high)
    left, top = int(round((wide - side) / 2.0)), int(round((high - side) / 2.0))
    x = torch.from_numpy(np.asarray(image.crop((left, top, left + side, top + side))).copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return ((x - mean[:, None, None]) / std[:, None, None])[None].double()
