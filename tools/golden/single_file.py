"""Golden case single_file: a small checkpoint under its original names, and what diffusers' conversion makes of it.

The names below follow the structure of the original programs (openaimodel.py, OpenCLIP); diffusers' converters rename them, and
the result must be exactly what models of these configurations ask for. converted.json holds, for every tensor, its shape and the
first eight digits of the SHA-256 of its float16 bytes.
"""

import hashlib
import json
import os

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as convert
from safetensors.torch import save_file

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")

C, TEXT, ADDED = 8, 12, 20
MULT, DEPTH, MIDDLE = (1, 2, 2), (0, 2, 0), 1
VAE_WIDTHS = (8, 8, 16)
CLIP, OPEN_CLIP = 4, 8

tensors = {}
draw = torch.Generator()
scale = 1.0


def add(name, *shape):
    tensors[name] = (torch.randn(shape, generator=draw) * scale).half()


def layer(name, *shape):
    add(name + ".weight", *shape)
    add(name + ".bias", shape[0])


def unet_resnet(at, inside, out):
    layer(at + ".in_layers.0", inside)
    layer(at + ".in_layers.2", out, inside, 3, 3)
    layer(at + ".emb_layers.1", out, 4 * C)
    layer(at + ".out_layers.0", out)
    layer(at + ".out_layers.3", out, out, 3, 3)
    if inside != out:
        layer(at + ".skip_connection", out, inside, 1, 1)


def transformer(at, width, depth):
    layer(at + ".norm", width)
    layer(at + ".proj_in", width, width)
    for i in range(depth):
        block = f"{at}.transformer_blocks.{i}"
        for name, context in (("attn1", width), ("attn2", TEXT)):
            add(f"{block}.{name}.to_q.weight", width, width)
            add(f"{block}.{name}.to_k.weight", width, context)
            add(f"{block}.{name}.to_v.weight", width, context)
            layer(f"{block}.{name}.to_out.0", width, width)
        for j in (1, 2, 3):
            layer(f"{block}.norm{j}", width)
        layer(block + ".ff.net.0.proj", 8 * width, width)
        layer(block + ".ff.net.2", width, 4 * width)
    layer(at + ".proj_out", width, width)


def unet(added):
    at = "model.diffusion_model."
    for name, inside in (("time_embed", C), ("label_emb.0", ADDED))[: 1 + added]:
        layer(f"{at}{name}.0", 4 * C, inside)
        layer(f"{at}{name}.2", 4 * C, 4 * C)
    layer(at + "input_blocks.0.0", C, 4, 3, 3)
    channels, skips, n = C, [C], 1
    for level, mult in enumerate(MULT):
        for _ in range(2):
            unet_resnet(f"{at}input_blocks.{n}.0", channels, C * mult)
            channels = C * mult
            if DEPTH[level]:
                transformer(f"{at}input_blocks.{n}.1", channels, DEPTH[level])
            skips.append(channels)
            n += 1
        if level < len(MULT) - 1:
            layer(f"{at}input_blocks.{n}.0.op", channels, channels, 3, 3)
            skips.append(channels)
            n += 1
    unet_resnet(at + "middle_block.0", channels, channels)
    transformer(at + "middle_block.1", channels, MIDDLE)
    unet_resnet(at + "middle_block.2", channels, channels)
    n = 0
    for level in reversed(range(len(MULT))):
        for i in range(3):
            unet_resnet(f"{at}output_blocks.{n}.0", channels + skips.pop(), C * MULT[level])
            channels = C * MULT[level]
            if DEPTH[level]:
                transformer(f"{at}output_blocks.{n}.1", channels, DEPTH[level])
            if level and i == 2:
                layer(f"{at}output_blocks.{n}.{2 if DEPTH[level] else 1}.conv", channels, channels, 3, 3)
            n += 1
    layer(at + "out.0", C)
    layer(at + "out.2", 4, C, 3, 3)


def vae_resnet(at, inside, out):
    layer(at + ".norm1", inside)
    layer(at + ".conv1", out, inside, 3, 3)
    layer(at + ".norm2", out)
    layer(at + ".conv2", out, out, 3, 3)
    if inside != out:
        layer(at + ".nin_shortcut", out, inside, 1, 1)


def vae_half(at, first, last, levels, blocks, change):
    """levels: in the order of the data"""
    top = VAE_WIDTHS[-1]
    encoder = "encoder" in at
    channels = VAE_WIDTHS[0] if encoder else top
    layer(at + "conv_in", channels, first, 3, 3)

    def middle():
        vae_resnet(at + "mid.block_1", top, top)
        layer(at + "mid.attn_1.norm", top)
        for name in ("q", "k", "v", "proj_out"):
            layer(f"{at}mid.attn_1.{name}", top, top, 1, 1)
        vae_resnet(at + "mid.block_2", top, top)

    if not encoder:
        middle()
    for level in levels:
        for i in range(blocks):
            vae_resnet(f"{at}{'down' if encoder else 'up'}.{level}.block.{i}", channels, VAE_WIDTHS[level])
            channels = VAE_WIDTHS[level]
        if level != levels[-1]:
            layer(f"{at}{'down' if encoder else 'up'}.{level}.{change}.conv", channels, channels, 3, 3)
    if encoder:
        middle()
    layer(at + "norm_out", channels)
    layer(at + "conv_out", last, channels, 3, 3)


def open_clip(at, width, layers, vocab, positions):
    add(at + "positional_embedding", positions, width)
    add(at + "token_embedding.weight", vocab, width)
    add(at + "text_projection", width, width)
    for i in range(layers):
        block = f"{at}transformer.resblocks.{i}"
        layer(block + ".ln_1", width)
        add(block + ".attn.in_proj_weight", 3 * width, width)
        add(block + ".attn.in_proj_bias", 3 * width)
        layer(block + ".attn.out_proj", width, width)
        layer(block + ".ln_2", width)
        layer(block + ".mlp.c_fc", 4 * width, width)
        layer(block + ".mlp.c_proj", width, 4 * width)
    layer(at + "ln_final", width)
    tensors[at + "logit_scale"] = torch.tensor(4.6).half()


def clip(at, width, layers, vocab, positions):
    tensors[at + "text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    add(at + "text_model.embeddings.position_embedding.weight", positions, width)
    add(at + "text_model.embeddings.token_embedding.weight", vocab, width)
    for i in range(layers):
        block = f"{at}text_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            layer(f"{block}.self_attn.{name}", width, width)
        for name in ("layer_norm1", "layer_norm2"):
            layer(f"{block}.{name}", width)
        layer(block + ".mlp.fc1", 4 * width, width)
        layer(block + ".mlp.fc2", width, 4 * width)
    layer(at + "text_model.final_layer_norm", width)


def original(sdxl, vocab=11, positions=5, size=1.0):
    """All tensors of a checkpoint. SD 2 has one text encoder, whose last layer is not used."""
    global scale
    tensors.clear()
    draw.manual_seed(3)
    scale = size
    unet(sdxl)
    vae_half("first_stage_model.encoder.", 3, 8, (0, 1, 2), 2, "downsample")
    vae_half("first_stage_model.decoder.", 4, 3, (2, 1, 0), 3, "upsample")
    layer("first_stage_model.quant_conv", 8, 8, 1, 1)
    layer("first_stage_model.post_quant_conv", 4, 4, 1, 1)
    if sdxl:
        clip("conditioner.embedders.0.transformer.", CLIP, 2, vocab, positions)
        open_clip("conditioner.embedders.1.model.", OPEN_CLIP, 2, vocab, positions)
    else:
        open_clip("cond_stage_model.model.", TEXT, 3, vocab, positions)
    tensors["denoiser.sigmas"] = torch.linspace(0, 1, 4)
    return {k: v.contiguous() for k, v in tensors.items()}


cross = ["CrossAttn" if d else "" for d in DEPTH]
unet_config = dict(
    block_out_channels=[C * m for m in MULT],
    down_block_types=[f"{x}DownBlock2D" for x in cross],
    up_block_types=[f"{x}UpBlock2D" for x in reversed(cross)],
    transformer_layers_per_block=[1, 2, MIDDLE],
    layers_per_block=2,
    norm_num_groups=4,
    attention_head_dim=2,
    cross_attention_dim=TEXT,
    use_linear_projection=True,
)
added_config = dict(
    addition_embed_type="text_time", addition_time_embed_dim=2, projection_class_embeddings_input_dim=ADDED
)
levels = len(VAE_WIDTHS)
vae_config = dict(
    block_out_channels=VAE_WIDTHS,
    down_block_types=["DownEncoderBlock2D"] * levels,
    up_block_types=["UpDecoderBlock2D"] * levels,
    layers_per_block=2,
    norm_num_groups=4,
)


def converted(checkpoint, sdxl):
    """The tensors of every component as diffusers' own conversion gives them."""

    class TextModel:  # what the OpenCLIP converter reads of a model
        class config:
            hidden_size = OPEN_CLIP if sdxl else TEXT

    models = {"unet": UNet2DConditionModel(**unet_config, **(added_config if sdxl else {})), "vae": AutoencoderKL(**vae_config)}
    out = {
        "unet": convert.convert_ldm_unet_checkpoint(dict(checkpoint), {**models["unet"].config}),
        "vae": convert.convert_ldm_vae_checkpoint(dict(checkpoint), {**models["vae"].config}),
    }
    for component, model in models.items():
        asked = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        given = {k: tuple(v.shape) for k, v in out[component].items()}
        assert asked == given, (component, set(asked.items()) ^ set(given.items()))
    if sdxl:
        out["text_encoder"] = convert.convert_ldm_clip_checkpoint(dict(checkpoint))
        del out["text_encoder"]["text_model.embeddings.position_ids"]
        prefix = "conditioner.embedders.1.model."
        out["text_encoder_2"] = convert.convert_open_clip_checkpoint(TextModel, dict(checkpoint), prefix=prefix)
    else:
        text = convert.convert_open_clip_checkpoint(TextModel, dict(checkpoint))
        out["text_encoder"] = {k: v for k, v in text.items() if "layers.2." not in k and "text_projection" not in k}
    return out


def main():
    checkpoint = original(sdxl=True)
    folder = os.path.join(GOLDEN, "single_file")
    os.makedirs(folder, exist_ok=True)
    save_file(checkpoint, os.path.join(folder, "checkpoint.safetensors"))
    listing = {
        component: {
            k: "x".join(map(str, v.shape)) + " " + hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest()[:8]
            for k, v in sorted(parts.items())
        }
        for component, parts in converted(checkpoint, sdxl=True).items()
    }
    with open(os.path.join(folder, "converted.json"), "w") as f:
        json.dump(listing, f, indent=0)
        f.write("\n")
    print({k: len(v) for k, v in listing.items()}, os.listdir(folder))


if __name__ == "__main__":
    main()
