"""The forms in which a model is held: what diffusers writes (plain, variant, sharded, both) and the one-file checkpoint of the original
programs. drpo draws the same latents from each, and diffusers' own reading of the folder gives the same picture. A LoRA merged into the
one-file checkpoint gives diffusers, by its own conversion, what the LoRA beside it gives drpo. Both families."""

import os
import sys

from common import MODEL, ROOT, check, check_at_least, drpo, finish, report

sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))
import single_file as golden  # noqa: E402
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer  # noqa: E402

WORK = sys.argv[1]
SIDE, PROMPT = 64, "a red star"
FORMS = {
    "plain": {},
    "variant": {"variant": "fp16"},
    "sharded": {"max_shard_size": "100KB"},
    "sharded-variant": {"max_shard_size": "100KB", "variant": "fp16"},
}
tokenizer = CLIPTokenizer.from_pretrained(os.path.join(MODEL, "tokenizer"))


def load(model, state):
    if not set(model.state_dict()) & set(state):  # newer transformers leave the prefix out
        state = {k.removeprefix("text_model."): v for k, v in state.items()}
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not unexpected and all("position_ids" in k for k in missing), (missing, unexpected)
    return model.eval()


def text_model(kind, width, act, state):
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=act,
        eos_token_id=tokenizer.eos_token_id,
    )
    return load(kind(config), state)


def pipeline(parts, sdxl):
    side = SIDE // 2 ** (len(golden.VAE_WIDTHS) - 1)
    added = golden.added_config if sdxl else {}
    common = {
        "vae": load(AutoencoderKL(**golden.vae_config), parts["vae"]),
        "unet": load(UNet2DConditionModel(sample_size=side, **golden.unet_config, **added), parts["unet"]),
        "tokenizer": tokenizer,
    }
    scheduler = os.path.join(MODEL, "scheduler")
    if sdxl:
        pipe = StableDiffusionXLPipeline(
            text_encoder=text_model(CLIPTextModel, golden.CLIP, "quick_gelu", parts["text_encoder"]),
            text_encoder_2=text_model(CLIPTextModelWithProjection, golden.OPEN_CLIP, "gelu", parts["text_encoder_2"]),
            tokenizer_2=tokenizer,
            scheduler=EulerAncestralDiscreteScheduler.from_pretrained(scheduler),
            add_watermarker=False,
            **common,
        )
    else:
        pipe = StableDiffusionPipeline(
            text_encoder=text_model(CLIPTextModel, golden.TEXT, "gelu", parts["text_encoder"]),
            scheduler=EulerDiscreteScheduler.from_pretrained(scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **common,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe):
    draw, how = torch.Generator().manual_seed(5), dict(height=SIDE, width=SIDE, output_type="latent")
    with torch.no_grad():
        return pipe(PROMPT, num_inference_steps=1, guidance_scale=0.0, generator=draw, **how).images


def family(name, sdxl):
    work = os.path.join(WORK, name)
    os.makedirs(work)
    checkpoint = golden.original(sdxl, vocab=len(tokenizer), positions=tokenizer.model_max_length, size=0.15)
    pipe = pipeline(golden.converted(checkpoint, sdxl), sdxl)

    def latents(form, *args):
        file, out = os.path.join(work, form + ".latents"), os.path.join(work, form)
        given = ["--prompt", PROMPT, "--seed", 5, "--rng", "torch", "--threads", 2, "--out", out, "--save-latents", file]
        drpo("sample", *given, *args)
        return load_file(file)["latents"]

    def same(form, *args):
        report(torch.equal(plain, latents(form, *args)), f"{name}, {form}: same latents", f"{name} {form}")

    folder = {form: os.path.join(work, "model-" + form) for form in FORMS}
    for form, how in FORMS.items():
        pipe.save_pretrained(folder[form], **how)
    shards = [f for f in os.listdir(os.path.join(folder["sharded"], "unet")) if "-of-" in f]
    report(len(shards) > 1, f"{name}: diffusers wrote the UNet in {len(shards)} files", "shards")

    plain = latents("plain", "--model", folder["plain"])
    wanted = drawn(pipe)
    check(f"{name}: latents beside diffusers", float((plain - wanted).norm() / wanted.norm()), 1e-4)
    for form, how in FORMS.items():
        same(form, "--model", folder[form])
        if "variant" in how:
            same(form + " asked for", "--model", folder[form], "--variant", "fp16")

    file = os.path.join(work, "tiny.safetensors")
    save_file(checkpoint, file)
    same("one file", "--model", file, "--tokenizer", folder["plain"])

    base, run, merged = ["--model", file, "--tokenizer", folder["plain"]], os.path.join(work, "run"), os.path.join(work, "merged.safetensors")
    drpo("train", *base, "--steps", 1, "--prompts-per-step", 1, "--candidates", 4, "--positives", 1, "--negatives", 1, "--lr", 0.02,
         "--lr-schedule", "constant", "--warmup", 0, "--eval-every", 0, "--out", run, "--features", "latent?keys=latent_mean_2",
         "--reward", "exec:" + sys.executable + " " + os.path.join(ROOT, "examples", "rewards", "redness.py?images=rgb"))  # fmt: skip
    drpo("export", run, "--format", "merged", "--out", merged, *base)
    report(set(load_file(merged)) == set(checkpoint), f"{name}: the merged file has the base's names", "merged")
    with_lora = latents("one file with a LoRA", *base, "--lora", run)
    alone = latents("merged file", "--model", merged, "--tokenizer", folder["plain"])
    change = (with_lora - plain).norm()
    check_at_least(f"{name}: change that the LoRA makes, relative", float(change / plain.norm()), 0.003)
    # what merged weights lose is their rounding to float16
    check(f"{name}: merged file beside its LoRA, of that change", float((alone - with_lora).norm() / change), 0.05)
    theirs = drawn(pipeline(golden.converted(load_file(merged), sdxl), sdxl))
    check(f"{name}: merged file beside diffusers' conversion of it", float((alone - theirs).norm() / theirs.norm()), 1e-4)
    if sdxl:
        return
    old, new = "cond_stage_model.model.", "conditioner.embedders.0.model."
    save_file({k.replace(old, new): v for k, v in checkpoint.items()}, file)
    same("one file with newer names", "--model", file, "--tokenizer", folder["plain"])


family("sd", False)
family("sdxl", True)
finish()
