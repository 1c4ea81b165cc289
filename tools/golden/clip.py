"""Golden cases of whole CLIP models: transformers' CLIPModel, the same network written out with OpenCLIP's names, scores of pictures
as rewards compute them, and the gradient of a score with respect to the pixels.

`clip_model/`: quick_gelu, transformers' names. `clip_openclip/`: gelu, OpenCLIP's names, in a file of torch.save under "state_dict".
`clip_model/head.pth`: a small head of the aesthetic predictor's form.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from common import FIRST, GOLDEN, normal, write_io, write_weights
from random_models import randomize

PROMPTS = ["a photo of a red circle", "a photo of four moons"]
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).double().view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).double().view(3, 1, 1)
SIZE = 21
WIDTH, HEIGHT = 34, 27


def config(act):
    return CLIPConfig(
        text_config=dict(
            vocab_size=657, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=32, hidden_act=act, bos_token_id=655, eos_token_id=656, pad_token_id=0),
        vision_config=dict(
            hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=2, image_size=SIZE, patch_size=7,
            hidden_act=act),
        projection_dim=20,
        attn_implementation="eager",
    )  # fmt: skip


def pictures():
    """Two smooth random pictures of 8 bits, not square, with some flat white."""
    x = F.interpolate(normal(950, 2, 3, 7, 9), (HEIGHT, WIDTH), mode="bicubic") * 90 + 128
    x[0, :, 5:15, 10:25] = 255
    return x.round().clamp(0, 255).to(torch.uint8)


def prepare(picture, rule):
    """The processor's way: short side resized by Pillow, centre crop, normalised."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    short = min(WIDTH, HEIGHT)
    size = (int(SIZE * WIDTH / short), int(SIZE * HEIGHT / short))
    image = image.resize(size, Image.BICUBIC)
    margin = size[0] - SIZE
    left = margin // 2 if rule == "floor" else int(round(margin / 2))
    image = image.crop((left, 0, left + SIZE, SIZE))
    return (torch.from_numpy(np.asarray(image, dtype=np.float64)).permute(2, 0, 1) / 255 - MEAN) / STD


def features(net, ids, pixels):
    text = net.text_projection(net.text_model(input_ids=ids).pooler_output)
    return text, net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output)


def run(case, net, ids, rule, head=None):
    pixels = torch.stack([prepare(x, rule) for x in pictures()])
    with torch.no_grad():
        text, image = features(net, ids, pixels)
        outputs = {"text": text, "image": image}
        outputs["score"] = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T  # [prompts, pictures]
        if head:
            outputs["aesthetic"] = head(F.normalize(image, dim=-1))[:, 0]
    x = (normal(951, 2, 3, HEIGHT, WIDTH) * 0.6).requires_grad_()  # some values beyond -1 and 1
    resized = F.interpolate(x.clamp(-1, 1) * 0.5 + 0.5, (SIZE, SIZE), mode="bicubic", antialias=True)
    text, image = features(net, ids, (resized - MEAN) / STD)
    score = (F.normalize(text, dim=-1)[0] * F.normalize(image, dim=-1)).sum(-1)
    outputs["pixels.score"] = score.detach()
    (outputs["pixels.gradient"],) = torch.autograd.grad(score.sum(), x, retain_graph=True)
    if head:
        score = head(F.normalize(image, dim=-1))[:, 0]
        outputs["pixels.aesthetic"] = score.detach()
        (outputs["pixels.aesthetic_gradient"],) = torch.autograd.grad(score.sum(), x)
    write_io(case, {"ids": ids, "pictures": pictures().permute(0, 2, 3, 1).int(), "image": x.detach()}, outputs)


def openclip_names(state):
    """transformers' names -> OpenCLIP's, with q, k, v in one matrix and projections as [in,out]."""
    whole = {
        "logit_scale": "logit_scale",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.": "ln_final.",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.": "visual.ln_pre.",
        "vision_model.post_layernorm.": "visual.ln_post.",
    }
    block = {"layer_norm1.": "ln_1.", "layer_norm2.": "ln_2.", "self_attn.out_proj.": "attn.out_proj.", "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj."}
    out = {"text_projection": state["text_projection.weight"].t(), "visual.proj": state["visual_projection.weight"].t()}
    for name, value in state.items():
        for old, new in whole.items():
            if name == old or (old.endswith(".") and name.startswith(old)):
                out[name.replace(old, new)] = value
        for tower, place in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
            if not name.startswith(tower + ".encoder.layers."):
                continue
            layer, rest = name.removeprefix(tower + ".encoder.layers.").split(".", 1)
            prefix = f"{place}.resblocks.{layer}."
            for old, new in block.items():
                if rest.startswith(old):
                    out[prefix + rest.replace(old, new)] = value
            if rest.startswith("self_attn.q_proj."):
                part = rest.removeprefix("self_attn.q_proj.")
                three = [state[name.replace(".q_proj.", f".{x}_proj.")] for x in "qkv"]
                out[f"{prefix}attn.in_proj_{part}"] = torch.cat(three)
    return {k: v.contiguous().half() for k, v in out.items()}


def aesthetic_head(width):
    """768-1024-128-64-16-1 in the published file; dropout between the layers, no activation."""
    sizes, layers = [width, 24, 16, 8, 4, 1], {}
    for i, place in enumerate((0, 2, 4, 6, 7)):
        layers[f"layers.{place}"] = torch.nn.Linear(sizes[i], sizes[i + 1])
    net = torch.nn.Sequential(*layers.values()).double()
    randomize(net, 970)
    state = {}
    for (name, layer) in layers.items():
        state |= {name + ".weight": layer.weight.detach().float(), name + ".bias": layer.bias.detach().float()}
    return net, state


if __name__ == "__main__":
    tokenizer = CLIPTokenizer.from_pretrained(FIRST, subfolder="tokenizer")
    ids = tokenizer(PROMPTS, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    net = randomize(CLIPModel(config("quick_gelu")), 940)
    net.logit_scale.fill_(4.6052)
    head, state = aesthetic_head(20)
    write_weights("clip_model", net, {**net.config.to_dict(), "architectures": ["CLIPModel"]})
    torch.save(state, os.path.join(GOLDEN, "clip_model", "head.pth"))
    run("clip_model", net, ids, "floor", head)

    net = randomize(CLIPModel(config("gelu")), 941)
    net.logit_scale.fill_(4.6052)
    os.makedirs(os.path.join(GOLDEN, "clip_openclip"), exist_ok=True)
    write_weights("clip_openclip", net, net.config.to_dict())
    os.remove(os.path.join(GOLDEN, "clip_openclip", "model.safetensors"))
    torch.save({"epoch": 1, "state_dict": openclip_names(net.state_dict())}, os.path.join(GOLDEN, "clip_openclip", "weights.pt"))
    run("clip_openclip", net, ids, "round")
    for case in ("clip_model", "clip_openclip"):
        for name in os.listdir(os.path.join(GOLDEN, case)):
            os.chmod(os.path.join(GOLDEN, case, name), 0o644)
