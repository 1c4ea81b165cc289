"""Seeded random weights, and whole model folders of them in the layouts of SD-Turbo and SDXL-Turbo. Used by the golden scripts here and
by tools/parity/families.py."""

import json
import os
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

FIRST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "fixtures", "tiny-turbo")

CROSS_DOWN, PLAIN_DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
# Widths: of the UNet's levels, of a head, of the text encoders, of the VAE; side of the latents.
TINY = {
    "sd": dict(channels=(8, 8, 16, 16), head=8, text=(24,), vae=(8, 8, 8, 16), groups=4, side=8, layers=3),
    "sdxl": dict(channels=(8, 16, 24), head=8, text=(16, 24), vae=(8, 8, 8, 16), groups=4, side=8, layers=3),
}
MID = {
    "sd": dict(channels=(64, 128, 192, 192), head=64, text=(256,), vae=(32, 64, 64, 64), groups=32, side=16, layers=5),
    "sdxl": dict(channels=(64, 128, 192), head=64, text=(128, 256), vae=(32, 64, 64, 64), groups=32, side=16, layers=5),
}


def randomize(network, seed):
    """Random weights that keep activations near unit size and leave no bias at zero and no norm at one."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            values = torch.randn(p.shape, generator=draw)
            if p.dim() > 1 and "embedding" not in name:
                values = values / p[0].numel() ** 0.5
            elif p.dim() > 1:
                values = values * 0.5
            elif name.endswith("weight"):
                values = 1 + 0.2 * values
            else:
                values = 0.2 * values
            p.copy_(values.half().to(p.dtype))
    return network.double().eval().requires_grad_(False)


def tokenizer(folder, pad):
    """The embedded generator's vocabulary with the length and the padding of the published tokenizers."""
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(FIRST, "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token=pad)
    config = dict(special, add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=77, tokenizer_class="CLIPTokenizer")
    for name, value in (("special_tokens_map.json", special), ("tokenizer_config.json", config)):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, indent=1)
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(network, seed, vocab, width, layers, act, **more):
    config = CLIPTextConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=width // 8,
        max_position_embeddings=77, hidden_act=act, projection_dim=width, bos_token_id=0, pad_token_id=1, **more)  # fmt: skip
    return randomize(network(config), seed).float()


def unet(seed, size, **family):
    channels = size["channels"]
    config = dict(
        sample_size=size["side"], block_out_channels=channels, layers_per_block=2, norm_num_groups=size["groups"], use_linear_projection=True,
        attention_head_dim=tuple(c // size["head"] for c in channels), cross_attention_dim=sum(size["text"]), **family)  # fmt: skip
    return randomize(UNet2DConditionModel(**config), seed).float()


def vae(seed, size, scaling):
    blocks = len(size["vae"])
    network = AutoencoderKL(
        block_out_channels=size["vae"], down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1, norm_num_groups=size["groups"], scaling_factor=scaling, force_upcast=True, sample_size=8 * size["side"])  # fmt: skip
    return randomize(network, seed).float()


SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", steps_offset=1)


def sd_turbo(folder, size):
    words = tokenizer(os.path.join(folder, "tokenizer"), "!")
    levels = len(size["channels"])
    return StableDiffusionPipeline(
        vae=vae(1, size, 0.18215),
        text_encoder=text_encoder(CLIPTextModel, 2, len(words), size["text"][0], size["layers"], "gelu", eos_token_id=2),
        tokenizer=words,
        unet=unet(3, size, down_block_types=(CROSS_DOWN,) * (levels - 1) + (PLAIN_DOWN,), up_block_types=(PLAIN_UP,) + (CROSS_UP,) * (levels - 1)),
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_turbo(folder, size):
    first, second = tokenizer(os.path.join(folder, "tokenizer"), "<|endoftext|>"), tokenizer(os.path.join(folder, "tokenizer_2"), "!")
    time, wide = size["head"], size["text"][1]
    return StableDiffusionXLPipeline(
        vae=vae(4, size, 0.13025),
        text_encoder=text_encoder(CLIPTextModel, 5, len(first), size["text"][0], size["layers"] - 1, "quick_gelu", eos_token_id=2),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, 6, len(second), wide, size["layers"], "gelu", eos_token_id=2),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet(7, size, down_block_types=(PLAIN_DOWN, CROSS_DOWN, CROSS_DOWN), up_block_types=(CROSS_UP, CROSS_UP, PLAIN_UP),
                  transformer_layers_per_block=(1, 2, 3), addition_embed_type="text_time", addition_time_embed_dim=time,
                  projection_class_embeddings_input_dim=6 * time + wide),
        scheduler=EulerAncestralDiscreteScheduler(**SCHEDULE),
        add_watermarker=False,
    )  # fmt: skip


BUILDERS = {"sd": sd_turbo, "sdxl": sdxl_turbo}


def build(family, folder, size):
    """Writes a model folder, weights in float16 (they were rounded to it), and returns its pipeline in float32."""
    shutil.rmtree(folder, ignore_errors=True)
    pipe = BUILDERS[family](folder, size)
    names = [name for name in ("vae", "unet", "text_encoder", "text_encoder_2", "scheduler") if getattr(pipe, name, None) is not None]
    index = {"_class_name": type(pipe).__name__}
    for name in names:
        part = getattr(pipe, name)
        if isinstance(part, torch.nn.Module):
            part.half()
        part.save_pretrained(os.path.join(folder, name))
        index[name] = ["transformers" if name.startswith("text") else "diffusers", type(part).__name__]
        if isinstance(part, torch.nn.Module):
            part.float()
    for name in ("tokenizer", "tokenizer_2"):
        if getattr(pipe, name, None) is not None:
            index[name] = ["transformers", "CLIPTokenizer"]
    with open(os.path.join(folder, "model_index.json"), "w") as f:
        json.dump(index, f, indent=1, sort_keys=True)
        f.write("\n")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def one_step(pipe, prompts, output_type, **more):
    return pipe(prompts, num_inference_steps=1, guidance_scale=0.0, output_type=output_type, **more).images
