"""Golden cases of LoRA files: one random adapter on the random UNet `unet_sd`, written by PEFT, by diffusers and in kohya's layout.

Two modules have a rank and an alpha of their own, and alpha differs from the rank everywhere, so that a reader that ignores
either gives another noise estimate. `io.safetensors` holds the inputs and the noise of the adapted network.
"""

import json
import os
import shutil

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from common import GOLDEN, normal, write_io

RANK, ALPHA = 3, 5
SPECIAL = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"  # rank 2, alpha 7


def config(targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "proj_in", "time_emb_proj")):
    return LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=list(targets),
        init_lora_weights=False,
        rank_pattern={SPECIAL: 2},
        alpha_pattern={SPECIAL: 7},
    )


def network():
    with open(f"{GOLDEN}/unet_sd/config.json") as f:
        options = {k: v for k, v in json.load(f).items() if not k.startswith("_")}
    unet = UNet2DConditionModel(**options)
    unet.load_state_dict(load_file(f"{GOLDEN}/unet_sd/model.safetensors"))
    return unet.double().eval().requires_grad_(False)


def write_peft(folder):
    """As `PeftModel.save_pretrained` leaves it."""
    torch.manual_seed(0)
    model = get_peft_model(network(), config())
    draw = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.copy_((0.3 * torch.randn(p.shape, generator=draw)).half())
    model.half().save_pretrained(folder)
    os.path.exists(folder + "/README.md") and os.remove(folder + "/README.md")
    return model.double().eval()


def main():
    folder = GOLDEN + "/lora"
    shutil.rmtree(folder, ignore_errors=True)
    model = write_peft(folder + "/peft")
    unet = model.get_base_model()
    inputs = {"latents": normal(70, 2, 4, 16, 8), "text": normal(71, 2, 7, 20), "time": unet.time_proj(torch.tensor([999]))}
    with torch.no_grad():
        write_io("lora", inputs, {"noise": unet(inputs["latents"], 999, inputs["text"]).sample})

    tensors = {k.removeprefix("base_model.model."): v.half() for k, v in get_peft_model_state_dict(model).items()}
    settings = {k: sorted(v) if isinstance(v, set) else v for k, v in model.peft_config["default"].to_dict().items()}
    settings.update(peft_type="LORA", runtime_config=None)
    settings = {k: v for k, v in settings.items() if v is None or isinstance(v, (bool, int, float, str, list, dict))}
    StableDiffusionPipeline.save_lora_weights(
        folder + "/diffusers", unet_lora_layers=tensors, unet_lora_adapter_metadata=settings
    )

    kohya = {}
    for key, value in tensors.items():
        module, kind = key.removesuffix(".weight").rsplit(".", 1)
        name = "lora_unet_" + module.replace(".", "_")
        kohya[f"{name}.{'lora_down' if kind == 'lora_A' else 'lora_up'}.weight"] = value.contiguous()
        kohya[f"{name}.alpha"] = torch.tensor(7.0 if module == SPECIAL else float(ALPHA)).half()
    os.makedirs(folder + "/kohya")
    save_file(kohya, folder + "/kohya/adapter.safetensors", metadata={"ss_network_module": "networks.lora"})


if __name__ == "__main__":
    main()
