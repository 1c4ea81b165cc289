"""CLIPScore, HPSv2 and the aesthetic predictor at the published widths (ViT-L/14, ViT-H/14), random weights: `drpo score` against
transformers on pictures prepared by Pillow. Depth is 2 layers, or CLIP_DEPTH=full."""

import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT, check, drpo, finish
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))
from random_clip import MEAN, STD, aesthetic_head, features, openclip_names  # noqa: E402
from random_models import FIRST, randomize  # noqa: E402

SIZES = {
    "l14": dict(text=(768, 12, 12), vision=(1024, 24, 16), embedding=768, act="quick_gelu"),
    "h14": dict(text=(1024, 24, 16), vision=(1280, 32, 16), embedding=1024, act="gelu"),
}
PICTURES = [(512, 512), (300, 411), (640, 224), (224, 224), (64, 64)]  # width, height
PROMPT = "a photo of a red circle and a blue star"

work = sys.argv[1]
full = os.environ.get("CLIP_DEPTH") == "full"


def network(size, seed):
    def tower(width, layers, heads, **more):
        return dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers if full else 2, num_attention_heads=heads,
                    hidden_act=size["act"], **more)  # fmt: skip

    config = CLIPConfig(
        text_config=tower(*size["text"], vocab_size=657, max_position_embeddings=77, bos_token_id=655, eos_token_id=656, pad_token_id=0),
        vision_config=tower(*size["vision"], image_size=224, patch_size=14),
        projection_dim=size["embedding"],
    )
    return randomize(CLIPModel(config), seed).float()


def pictures():
    names = []
    for i, (w, h) in enumerate(PICTURES):
        draw = np.random.default_rng(i)
        coarse = Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((w, h), Image.BICUBIC)
        noise = draw.integers(-20, 21, (h, w, 3))
        names.append(os.path.join(work, f"{i}.png"))
        Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8)).save(names[-1])
    return names


def prepare(name, rule):
    image = Image.open(name)
    w, h = image.size
    short = min(w, h)
    image = image.resize((int(224 * w / short), int(224 * h / short)), Image.BICUBIC)
    left, top = [(m - 224) // 2 if rule == "floor" else int(round((m - 224) / 2)) for m in image.size]
    pixels = torch.from_numpy(np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float64)).permute(2, 0, 1)
    return ((pixels / 255 - MEAN) / STD).float()


def scores(net, ids, names, rule):
    with torch.no_grad():
        text, image = features(net, ids, torch.stack([prepare(n, rule) for n in names]))
    return F.normalize(image, dim=-1), (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T)[:, 0]


def ours(spec, names):
    lines = drpo("score", "--reward", spec, "--prompt", PROMPT, *names).splitlines()
    return torch.tensor([json.loads(line)["reward"] for line in lines])


def save_folder(net, folder):
    net.half().save_pretrained(folder)
    return net.float()


def run(kind, size, seed, names, ids):
    folder = os.path.join(work, kind)
    net = network(SIZES[size], seed)
    tokenizer = f"tokenizer={FIRST}/tokenizer"
    if kind == "clipscore":
        net = save_folder(net, folder)
        image, wanted = scores(net, ids, names, "floor")
        check(f"{kind} {size}: score", float((ours(f"{kind}:{folder}?{tokenizer}", names) - wanted).abs().max()), 1e-5)
        head, state = aesthetic_head(SIZES[size]["embedding"])
        torch.save(state, folder + ".pth")
        with torch.no_grad():
            wanted = head(image.double())[:, 0].float()
        check(f"aesthetic {size}: score", float((ours(f"aesthetic:{folder}?head={folder}.pth", names) - wanted).abs().max()), 1e-5)
    else:
        os.makedirs(folder)
        torch.save({"state_dict": openclip_names(net.state_dict())}, folder + "/weights.pt")
        net.config.save_pretrained(folder)
        _, wanted = scores(net, ids, names, "round")
        check(f"{kind} {size}: score", float((ours(f"{kind}:{folder}/weights.pt?{tokenizer}", names) - wanted).abs().max()), 1e-5)


if __name__ == "__main__":
    tokenizer = CLIPTokenizer.from_pretrained(FIRST, subfolder="tokenizer")
    ids = tokenizer([PROMPT], padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    names = pictures()
    run("clipscore", "l14", 11, names, ids)
    run("hpsv2", "h14", 12, names, ids)
    finish()
