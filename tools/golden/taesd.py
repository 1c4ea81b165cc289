"""Golden cases of AutoencoderTiny's decoder, and the same weights under the names of the authors' taesd_decoder file."""

import os

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from common import GOLDEN, normal, randomize, write_io, write_weights

CASES = {
    "taesd_random": dict(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_decoder_blocks=(2, 0, 1), num_encoder_blocks=(1, 1, 1)
    ),
    "taesd_plain": dict(
        encoder_block_out_channels=(6, 6),
        decoder_block_out_channels=(6, 6),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 2),
        latent_channels=6,
        act_fn="gelu",
        scaling_factor=0.5,
    ),
}


def write_own_names(case, net):
    """The authors' decoder is a bare sequence whose layer 0 is the bound."""
    tensors = {}
    for name, value in net.decoder.state_dict().items():
        _, number, *rest = name.split(".")
        tensors[".".join([str(int(number) + 1), *rest])] = value.half().contiguous()
    save_file(tensors, os.path.join(GOLDEN, case, "taesd_decoder.safetensors"))


if __name__ == "__main__":
    with torch.no_grad():
        for number, (case, options) in enumerate(CASES.items()):
            net = randomize(AutoencoderTiny(**options), 400 + number)
            write_weights(case, net, {**net.config, "_class_name": "AutoencoderTiny"})
            folder = os.path.join(GOLDEN, case)
            os.replace(os.path.join(folder, "model.safetensors"), os.path.join(folder, "diffusion_pytorch_model.safetensors"))
            if case == "taesd_random":
                write_own_names(case, net)
            latents = 3 * normal(410 + number, 2, net.config.latent_channels, 4, 6)  # some of them far outside the bound
            write_io(case, {"latents": latents}, {"image": net.decode(latents / net.config.scaling_factor).sample})
