"""Golden cases of UNet2DConditionModel: the shipped checkpoint and random networks that reach every option drpo reads."""

import torch
from diffusers import UNet2DConditionModel

from common import FIRST, normal, randomize, write_io, write_weights

CROSS_DOWN, PLAIN_DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"

RANDOM = {
    # The layout of SD 2.1: four levels, linear projections, head counts per level (under the misnamed attention_head_dim).
    "unet_sd": dict(
        block_out_channels=(8, 12, 16, 16),
        down_block_types=(CROSS_DOWN,) * 3 + (PLAIN_DOWN,),
        up_block_types=(PLAIN_UP,) + (CROSS_UP,) * 3,
        attention_head_dim=(1, 3, 2, 4),
        layers_per_block=2,
        transformer_layers_per_block=2,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        cross_attention_dim=20,
        norm_num_groups=4,
        upcast_attention=True,
    ),
    # The layout of SDXL: no attention at full size, growing transformer depth, text and size conditioning added to the time.
    "unet_sdxl": dict(
        block_out_channels=(8, 16, 24),
        down_block_types=(PLAIN_DOWN, CROSS_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, CROSS_UP, PLAIN_UP),
        attention_head_dim=(1, 2, 3),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        cross_attention_dim=20,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 20,
    ),
    # The layout of SD 1.x (1x1 convolutions around the transformer) with asymmetric padding and what else may be set.
    "unet_conv_proj": dict(
        block_out_channels=(12, 24),
        down_block_types=(CROSS_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, CROSS_UP),
        attention_head_dim=3,
        layers_per_block=(1, 2),
        downsample_padding=0,
        use_linear_projection=False,
        cross_attention_dim=20,
        norm_num_groups=3,
        only_cross_attention=True,
        flip_sin_to_cos=False,
        freq_shift=1,
        mid_block_scale_factor=1.5,
        norm_eps=1e-6,
        act_fn="gelu",
    ),
    # A middle block without attention.
    "unet_plain_mid": dict(
        block_out_channels=(8, 16),
        down_block_types=(PLAIN_DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, PLAIN_UP),
        attention_head_dim=2,
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        cross_attention_dim=12,
        norm_num_groups=2,
        out_channels=3,
        in_channels=5,
    ),
}


def run(unet, case, seed, height, width, tokens, timestep, text=None):
    """One forward pass of two samples; stores the inputs, the noise estimate and the output of every block."""
    c = unet.config
    latents = normal(seed, 2, c.in_channels, height, width)
    text = normal(seed + 1, 2, tokens, c.cross_attention_dim) if text is None else text
    inputs = {
        "latents": latents,
        "text": text,
        "timestep": torch.tensor([float(timestep)]),
        "time": unet.time_proj(torch.tensor([timestep])),
    }
    extra = {}
    if c.addition_embed_type == "text_time":
        ids = torch.tensor([[512.0, 512, 0, 0, 512, 512], [640, 384, 16, 8, 512, 256]])
        width_of_ids = 6 * c.addition_time_embed_dim
        pooled = normal(seed + 2, 2, c.projection_class_embeddings_input_dim - width_of_ids)
        added = torch.cat([pooled, unet.add_time_proj(ids.flatten()).reshape(2, -1).double()], 1)
        inputs.update(ids=ids, pooled=pooled, added=added)
        extra["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
    outputs, hooks = {}, []

    def tap(name):
        def keep(module, args, out):
            outputs[name] = out[0] if isinstance(out, tuple) else out

        return keep

    blocks = [(f"down_blocks.{i}", b) for i, b in enumerate(unet.down_blocks)] + [("mid_block", unet.mid_block)]
    blocks += [(f"up_blocks.{i}", b) for i, b in enumerate(unet.up_blocks)]
    for name, module in [("time_embedding", unet.time_embedding), ("conv_in", unet.conv_in)] + blocks:
        hooks.append(module.register_forward_hook(tap(name)))
    outputs["noise"] = unet(latents, timestep, text, **extra).sample
    for h in hooks:
        h.remove()
    write_io(case, inputs, outputs)


def tiny():
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = FIRST
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").double().eval().requires_grad_(False)
    encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").double().eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    ids = tokenizer(
        ["a photo of a red circle and a blue star", "a photo of three hearts"],
        padding="max_length",
        max_length=32,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    run(unet, "unet_tiny", 10, 16, 16, 32, 999, encoder(ids)[0].float().double())


if __name__ == "__main__":
    with torch.no_grad():
        tiny()
        for number, (name, options) in enumerate(RANDOM.items()):
            net = randomize(UNet2DConditionModel(sample_size=16, **options), 100 + number)
            write_weights(name, net, {**net.config, "_class_name": "UNet2DConditionModel"})
            run(net, name, 200 + 10 * number, 16, 8, 7, 999 if number % 2 == 0 else 417)
