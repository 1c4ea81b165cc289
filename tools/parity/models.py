"""The forms in which a model is held: what diffusers writes (plain, variant, sharded, both) and the one-file checkpoint of the original
programs. drpo draws the same latents from each, and diffusers' own reading of the folder gives the same picture."""

import os
import sys

from common import MODEL, ROOT, check, drpo, finish, report

sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))
import single_file as golden  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

WORK = sys.argv[1]
SIDE, PROMPT = 64, "a red star"
tokenizer = CLIPTokenizer.from_pretrained(os.path.join(MODEL, "tokenizer"))


def load(model, state):
    names = set(model.state_dict())
    if not names & set(state):  # newer transformers leave the prefix out
        state = {k.removeprefix("text_model."): v for k, v in state.items()}
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not unexpected and all("position_ids" in k for k in missing), (missing, unexpected)
    return model.eval()


checkpoint = golden.original(sdxl=False, vocab=len(tokenizer), positions=tokenizer.model_max_length, size=0.15)
parts = golden.converted(checkpoint, sdxl=False)
text_config = CLIPTextConfig(
    vocab_size=len(tokenizer),
    hidden_size=golden.TEXT,
    intermediate_size=4 * golden.TEXT,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=tokenizer.model_max_length,
    hidden_act="gelu",
    eos_token_id=tokenizer.eos_token_id,
)
side = SIDE // 2 ** (len(golden.VAE_WIDTHS) - 1)
pipe = StableDiffusionPipeline(
    vae=load(AutoencoderKL(**golden.vae_config), parts["vae"]),
    text_encoder=load(CLIPTextModel(text_config), parts["text_encoder"]),
    tokenizer=tokenizer,
    unet=load(UNet2DConditionModel(sample_size=side, **golden.unet_config), parts["unet"]),
    scheduler=EulerDiscreteScheduler.from_pretrained(os.path.join(MODEL, "scheduler")),
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
pipe.set_progress_bar_config(disable=True)


def latents(name, *args):
    file = os.path.join(WORK, name + ".latents")
    drpo("sample", "--prompt", PROMPT, "--seed", 5, "--rng", "torch", "--threads", 2, "--out", os.path.join(WORK, name), "--save-latents", file, *args)
    return load_file(file)["latents"]


folders = {
    "plain": {},
    "variant": {"variant": "fp16"},
    "sharded": {"max_shard_size": "100KB"},
    "sharded-variant": {"max_shard_size": "100KB", "variant": "fp16"},
}
for name, how in folders.items():
    pipe.save_pretrained(os.path.join(WORK, "model-" + name), **how)
shards = [f for f in os.listdir(os.path.join(WORK, "model-sharded", "unet")) if "-of-" in f]
report(len(shards) > 1, f"diffusers wrote the UNet in {len(shards)} files", "shards")

plain = latents("plain", "--model", os.path.join(WORK, "model-plain"))
wanted = pipe(PROMPT, num_inference_steps=1, guidance_scale=0.0, generator=torch.Generator().manual_seed(5), height=SIDE, width=SIDE, output_type="latent").images
check("latents beside diffusers", float((plain - wanted).norm() / wanted.norm()), 1e-4)
for name, how in folders.items():
    for given in ([], ["--variant", "fp16"]):
        if given and "variant" not in how:
            continue
        same = torch.equal(plain, latents(name, "--model", os.path.join(WORK, "model-" + name), *given))
        report(same, f"{name} {' '.join(given)}: same latents", name)

file = os.path.join(WORK, "tiny.safetensors")
save_file(checkpoint, file)
given = ["--model", file, "--tokenizer", os.path.join(WORK, "model-plain")]
report(torch.equal(plain, latents("file", *given)), "one file: same latents", "file")
for name in [k for k in checkpoint if k.startswith("cond_stage_model.model.")]:
    checkpoint["conditioner.embedders.0.model." + name.removeprefix("cond_stage_model.model.")] = checkpoint.pop(name)
save_file(checkpoint, file)
report(torch.equal(plain, latents("file2", *given)), "one file with the newer names of its text encoder: same latents", "file2")
finish()
