"""Writes a model folder of the true size of SD-Turbo or SDXL-Turbo with random weights, for measuring time and memory without the
published files.

    python3 make_model.py sd-turbo FOLDER [--dtype f16|bf16|f32] [--seed N]

Shapes come from diffusers' and transformers' own classes on the meta device, so no network is ever held in memory: tensors are drawn and
written one by one. Weights are scaled by their fan-in, and more where a layer ends a residual branch, so that activations stay near unit
size through the whole depth. The tokenizer is the small one of the tests; its ids fit the full vocabulary."""

import argparse
import json
import os
import struct
import sys

import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from random_models import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SCHEDULE, tokenizer  # noqa: E402

from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection  # noqa: E402

DTYPES = {"f16": ("F16", 2), "bf16": ("BF16", 2), "f32": ("F32", 4)}
# layers whose output is added to what went in
BRANCH_ENDS = ("conv2.weight", "to_out.0.weight", "ff.net.2.weight", "proj_out.weight", "out_proj.weight", "fc2.weight")
SIZES = {
    "sd-turbo": dict(
        pipeline="StableDiffusionPipeline",
        scheduler=EulerDiscreteScheduler,
        scaling=0.18215,
        text=[dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu", projection_dim=512)],
        unet=dict(block_out_channels=(320, 640, 1280, 1280), attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024,
                  down_block_types=(CROSS_DOWN,) * 3 + (PLAIN_DOWN,), up_block_types=(PLAIN_UP,) + (CROSS_UP,) * 3),
    ),
    "sdxl-turbo": dict(
        pipeline="StableDiffusionXLPipeline",
        scheduler=EulerAncestralDiscreteScheduler,
        scaling=0.13025,
        text=[dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768),
              dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu", projection_dim=1280)],
        unet=dict(block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
                  down_block_types=(PLAIN_DOWN, CROSS_DOWN, CROSS_DOWN), up_block_types=(CROSS_UP, CROSS_UP, PLAIN_UP),
                  transformer_layers_per_block=(1, 2, 10), addition_embed_type="text_time", addition_time_embed_dim=256,
                  projection_class_embeddings_input_dim=2816),
    ),
}  # fmt: skip


def draw(name, shape, random):
    values = random.standard_normal(shape, dtype=np.float32)
    if len(shape) > 1 and "embedding" in name and not name.startswith(("time_embedding", "add_embedding")):
        values *= np.float32(0.05)  # tables, not products
    elif len(shape) > 1:
        values *= np.float32((0.3 if name.endswith(BRANCH_ENDS) else 1.0) / np.sqrt(np.prod(shape[1:])))
    else:
        values *= np.float32(0.05)
        if name.endswith("weight"):
            values += np.float32(1)
    return values


def encode(values, dtype):
    if dtype == "f32":
        return values.tobytes()
    kind = torch.float16 if dtype == "f16" else torch.bfloat16
    return torch.from_numpy(values).to(kind).view(torch.int16).numpy().tobytes()


def write_tensors(path, shapes, dtype, seed):
    """A safetensors file, tensor after tensor."""
    name_of, size = DTYPES[dtype]
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes:
        end = at + size * int(np.prod(shape))
        header[name] = {"dtype": name_of, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            f.write(encode(draw(name, shape, random), dtype))
    print(f"{path}: {len(shapes)} tensors, {at / 1e9:.2f} GB", flush=True)


def write_part(folder, name, stem, build, dtype, seed):
    with torch.device("meta"):
        network = build()
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    if hasattr(network, "save_config"):
        network.save_config(path)
    else:
        network.config.architectures = [type(network).__name__]
        network.config.save_pretrained(path)
    shapes = [(n, tuple(p.shape)) for n, p in network.named_parameters()]
    write_tensors(os.path.join(path, stem + ".safetensors"), shapes, dtype, seed)
    return ["transformers" if name.startswith("text") else "diffusers", type(network).__name__]


def text_config(size):
    return CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, eos_token_id=2, bos_token_id=0, pad_token_id=1, **size)


def make(family, folder, dtype, seed):
    size = SIZES[family]
    os.makedirs(folder, exist_ok=True)
    index = {"_class_name": size["pipeline"]}
    unet = dict(sample_size=64, layers_per_block=2, use_linear_projection=True, **size["unet"])
    vae = dict(
        block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2, sample_size=512, scaling_factor=size["scaling"], force_upcast=True)  # fmt: skip
    index["unet"] = write_part(folder, "unet", "diffusion_pytorch_model", lambda: UNet2DConditionModel(**unet), dtype, seed)
    index["vae"] = write_part(folder, "vae", "diffusion_pytorch_model", lambda: AutoencoderKL(**vae), dtype, seed + 1)
    for i, text in enumerate(size["text"]):
        number = f"_{i + 1}" if i else ""
        network = CLIPTextModelWithProjection if i else CLIPTextModel
        index["text_encoder" + number] = write_part(
            folder, "text_encoder" + number, "model", lambda n=network, t=text: n(text_config(t)), dtype, seed + 2 + i)  # fmt: skip
        tokenizer(os.path.join(folder, "tokenizer" + number), "<|endoftext|>" if len(size["text"]) > 1 and i == 0 else "!")
        index["tokenizer" + number] = ["transformers", "CLIPTokenizer"]
    size["scheduler"](**SCHEDULE).save_pretrained(os.path.join(folder, "scheduler"))
    index["scheduler"] = ["diffusers", size["scheduler"].__name__]
    with open(os.path.join(folder, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1, sort_keys=True)
        f.write("\n")


if __name__ == "__main__":
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("family", choices=sorted(SIZES))
    parse.add_argument("folder")
    parse.add_argument("--dtype", choices=sorted(DTYPES), default="f16")
    parse.add_argument("--seed", type=int, default=0)
    o = parse.parse_args()
    make(o.family, o.folder, o.dtype, o.seed)
