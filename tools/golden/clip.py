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
from random_clip import MEAN, STD, aesthetic_head, features, openclip_names
from random_models import randomize

PROMPTS = ["a photo of a red circle", "a photo of four moons"]
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
