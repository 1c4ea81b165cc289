"""Golden cases of AutoencoderKL: decoding (latents are already divided by the scaling factor) and the moments of encoding."""

import torch
from diffusers import AutoencoderKL

from common import FIRST, normal, randomize, write_io, write_weights


def blocks(n):
    return dict(down_block_types=("DownEncoderBlock2D",) * n, up_block_types=("UpDecoderBlock2D",) * n)


RANDOM = {
    "vae_random": dict(
        block_out_channels=(8, 8, 16, 16), layers_per_block=2, norm_num_groups=4, scaling_factor=0.18215, **blocks(4)
    ),
    "vae_plain": dict(
        block_out_channels=(8, 12),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=6,
        scaling_factor=0.5,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        **blocks(2)
    ),
}


def run(vae, case, seed, height, width):
    c = vae.config
    factor = 2 ** (len(c.block_out_channels) - 1)
    latents = normal(seed, 2, c.latent_channels, height, width)
    image = (0.5 * normal(seed + 1, 2, 3, height * factor, width * factor)).clamp(-1, 1).float().double()
    write_io(
        case,
        {"latents": latents, "image": image},
        {"image": vae.decode(latents).sample, "moments": vae.encode(image).latent_dist.parameters},
    )


if __name__ == "__main__":
    with torch.no_grad():
        run(AutoencoderKL.from_pretrained(FIRST, subfolder="vae").double().eval(), "vae_tiny", 20, 16, 16)
        for number, (name, options) in enumerate(RANDOM.items()):
            net = randomize(AutoencoderKL(sample_size=32, **options), 300 + number)
            write_weights(name, net, {**net.config, "_class_name": "AutoencoderKL"})
            run(net, name, 310 + 10 * number, 4, 6)
