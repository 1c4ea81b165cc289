"""Golden cases of the feature maps that stand beside the generator: hidden states of the UNet, DINOv2 and ViT-MAE behind the VAE
decoder, with the first embedded generator's UNet and VAE. Values of every key and the gradient with respect to the latents.

The weights of the two vision networks are random; they are saved by transformers, under the names that it writes.
"""

import json
import os

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model, ViTMAEConfig, ViTMAEForPreTraining

from common import FIRST, GOLDEN, normal, randomize, write_io

SIDE, N = 16, 2
TEACHER_KEYS = ["down_blocks.0", "mid_block", "up_blocks.0"]
DINO_KEYS = (
    "layer0_patch layer1_patch_mean layer2_patch_std layer2_cls layer3_patch_patch2_mean layer3_patch_patch2_std "
    "layer3_patch_mean layer3_cls_mean"
).split()
MAE_KEYS = "layer2_patch_mean layer2_patch_std layer2_cls layer1_patch".split()


def seeds(keys, features, case):
    return {key: normal(700 + 31 * case + i, *features[key].shape).float().double() for i, key in enumerate(keys)}


def finish(case, number, latents, keys, features, more=None):
    seed = seeds(keys, features, number)
    total = sum((features[key] * seed[key]).sum() for key in keys)
    (gradient,) = torch.autograd.grad(total, latents)
    inputs = {"latents": latents.detach(), **{"seed." + key: seed[key] for key in keys}, **(more or {})}
    write_io(case, inputs, {**{key: features[key].detach() for key in keys}, "gradient": gradient})
    for name in os.listdir(os.path.join(GOLDEN, case)):
        os.chmod(os.path.join(GOLDEN, case, name), 0o644)


def teacher():
    unet = UNet2DConditionModel.from_pretrained(FIRST, subfolder="unet").double().eval().requires_grad_(False)
    latents = normal(71, N, 4, SIDE, SIDE).float().double().requires_grad_(True)
    text = normal(72, 1, 32, unet.config.cross_attention_dim).float().double()
    found = {}
    for key in TEACHER_KEYS:
        module = unet.get_submodule(key)
        module.register_forward_hook(
            lambda m, i, o, key=key: found.__setitem__(key, o[0] if isinstance(o, tuple) else o)
        )
    unet(latents, 100, text.expand(N, -1, -1))
    features = {}
    for key in TEACHER_KEYS:
        x = found[key]
        x = F.avg_pool2d(x, 4, 4) if min(x.shape[-2:]) >= 4 else x.mean((2, 3), keepdim=True)
        features[key] = x.flatten(1)[:, None]
    finish("feature_teacher", 0, latents, TEACHER_KEYS, features, {"text": text})


def safe_std(x, eps=1e-6):
    return (x.var(1, unbiased=False, keepdim=True).clamp_min(0) + eps).sqrt()


def feature(hidden, key):
    layer, rest = key.split("_", 1)
    x = hidden[int(layer[5:])]
    patches = x[:, 1:]
    if rest.startswith("cls"):
        return x[:, :1]
    if rest == "patch":
        return patches
    if rest in ("patch_mean", "patch_std"):
        return patches.mean(1, keepdim=True) if rest.endswith("mean") else safe_std(patches)
    cell, what = rest[len("patch_patch") :].split("_")
    side = int(patches.shape[1] ** 0.5)
    image = patches.transpose(1, 2).unflatten(2, (side, side))
    mean = F.avg_pool2d(image, int(cell))
    if what == "std":
        mean = (F.avg_pool2d(image**2, int(cell)) - mean**2).clamp_min(1e-8).sqrt()
    return mean.flatten(2).transpose(1, 2)


def pixels(vae, latents, size, antialias, mean, std):
    image = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    print("outside of [-1,1]:", float((image.abs() >= 1).double().mean()))
    image = F.interpolate((image + 1) / 2, (size, size), mode="bicubic", align_corners=False, antialias=antialias)
    return (image - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std).double()[:, None, None]


def save(network, case, processor):
    """As save_pretrained names things; float16."""
    folder = os.path.join(GOLDEN, case)
    network.save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    save_file({k: v.half().contiguous() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as f:
        json.dump(processor, f, indent=1)
        f.write("\n")


def vision(case, number, network, encoder, size, antialias, keys, processor, run):
    vae = AutoencoderKL.from_pretrained(FIRST, subfolder="vae").double().eval().requires_grad_(False)
    randomize(network, 720 + number)
    for name, p in network.named_parameters():
        if name.endswith("projection.weight"):
            p.copy_((p * 0.1).half().to(p.dtype))  # patches as large as their positions
    save(network, case, processor)
    latents = (1.2 * normal(73 + number, N, 4, SIDE, SIDE)).float().double().requires_grad_(True)
    x = pixels(vae, latents, size, antialias, processor["image_mean"], processor["image_std"])
    hidden = run(encoder, x)
    finish(case, number, latents, keys, {key: feature(hidden, key) for key in keys})


def dinov2():
    config = Dinov2Config(hidden_size=24, num_hidden_layers=4, num_attention_heads=3, image_size=42, patch_size=14, mlp_ratio=2)
    config._attn_implementation = "eager"
    network = Dinov2Model(config)
    processor = dict(crop_size=dict(height=56, width=56), size=dict(shortest_edge=64))
    processor.update(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    run = lambda m, x: m(x, output_hidden_states=True).hidden_states
    vision("feature_dinov2", 1, network, network, 56, True, DINO_KEYS, processor, run)


def vit_mae():
    config = ViTMAEConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=48, patch_size=12,
        decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=1, decoder_intermediate_size=8,
        mask_ratio=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    network = ViTMAEForPreTraining(config)
    processor = dict(size=dict(height=48, width=48), image_mean=[0.5, 0.4, 0.45], image_std=[0.3, 0.25, 0.2])

    def run(m, x):  # mask_ratio 0 shuffles the patches: noise in order keeps them
        order = torch.arange(16).double().expand(len(x), -1)
        return m.vit(x, noise=order, output_hidden_states=True).hidden_states

    vision("feature_vitmae", 2, network, network, 48, False, MAE_KEYS, processor, run)


if __name__ == "__main__":
    teacher()
    dinov2()
    vit_mae()
