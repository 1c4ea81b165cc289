"""Times a reward model in transformers: the peer of `drpo bench reward`.

    peer_reward.py KIND FOLDER [--rounds N] [--pictures K] [--side S] [--threads T]

FOLDER as tools/fullsize/make_reward.py writes it; for hpsv2 that of clip-h, whose numbers are then rounded to float16, and for aesthetic
that of clip-l with --head. Every round scores K pictures of another prompt, prepared with Pillow, in one batch. HPSv3 runs in bfloat16
on mapped weights; --exact computes it in float32 layer by layer, for comparing scores, without a first round. Prints one JSON line.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.join(ROOT, "tools", "golden")]
from random_clip import MEAN, STD  # noqa: E402
from tiny.common import keep_memory  # noqa: E402


def pictures(count, side):
    """Those of src/train/bench_reward.c."""
    k, y, x, c = np.ogrid[0:count, 0:side, 0:side, 0:3]
    wave = (x * (k % 7 + 1) + y * (2 * c + 3)) % 480
    place = (((k * 4096 + y) * 4096 + x) * 3 + c).astype(np.uint32)
    return (np.where(wave < 240, wave, 479 - wave) + (place * np.uint32(2654435761) >> np.uint32(28))).astype(np.uint8)


def prepare(pixels, rule):
    h, w = pixels.shape[:2]
    short = min(w, h)
    image = Image.fromarray(pixels).resize((int(224 * w / short), int(224 * h / short)), Image.BICUBIC)
    left, top = [(m - 224) // 2 if rule == "floor" else int(round((m - 224) / 2)) for m in image.size]
    x = torch.from_numpy(np.asarray(image.crop((left, top, left + 224, top + 224))).copy()).permute(2, 0, 1).float() / 255
    return (x - MEAN.float()) / STD.float()


def clip(kind, o):
    from transformers import CLIPModel, CLIPTokenizer

    net = CLIPModel.from_pretrained(o.folder, dtype=torch.float32).eval()
    if kind == "hpsv2":
        net = net.half().float()
    tokenizer, rule = CLIPTokenizer.from_pretrained(o.folder), "round" if kind == "hpsv2" else "floor"
    head = torch.load(o.head) if kind == "aesthetic" else None

    def score(prompt, rgb):
        image = net.visual_projection(net.vision_model(pixel_values=torch.stack([prepare(p, rule) for p in rgb])).pooler_output)
        image = F.normalize(image, dim=-1)
        if head:
            for i in (0, 2, 4, 6, 7):
                image = F.linear(image, head[f"layers.{i}.weight"], head[f"layers.{i}.bias"])
            return image[:, 0]
        ids = tokenizer([prompt], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        text = net.text_projection(net.text_model(input_ids=ids).pooler_output)
        return (image @ F.normalize(text, dim=-1).T)[:, 0]

    return score


def imagereward(kind, o):
    from random_blip import DEVIATION, head, read, vision_name
    from random_blip import MEAN as SCORE_MEAN
    from safetensors.torch import load_file
    from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    state = load_file(os.path.join(o.folder, "ImageReward.safetensors"))
    with torch.device("meta"):
        vision = BlipVisionModel(
            BlipVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224, patch_size=16, layer_norm_eps=1e-6)
        ).eval()
        text = BlipTextModel(
            BlipTextConfig(
                vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=512, layer_norm_eps=1e-12, is_decoder=True
            ),
            add_pooling_layer=False,
        ).eval()
    vision.load_state_dict({k: state[vision_name(k)] for k in vision.state_dict()}, assign=True)
    own = {k: state["blip.text_encoder." + k] for k in text.state_dict() if "position_ids" not in k}
    text.load_state_dict(own, assign=True, strict=False)
    text.embeddings.position_ids = torch.arange(512)[None]
    with open(os.path.join(o.folder, "vocab.txt")) as f:
        tokenizer = BertTokenizer(vocab={line.rstrip("\n"): i for i, line in enumerate(f)})
    layers = {k: v for k, v in state.items() if k.startswith("mlp.")}

    def score(prompt, rgb):
        batch = tokenizer([prompt] * len(rgb), padding="max_length", truncation=True, max_length=35, return_tensors="pt")
        states = vision(torch.stack([prepare(p, "round") for p in rgb])).last_hidden_state
        out = read(text, batch.input_ids, batch.attention_mask, states)
        return ((head(layers, out[:, 0].double()) - SCORE_MEAN) / DEVIATION)[:, 0]

    return score


def in_float32(module):
    """The module's mapped bfloat16 values become float32 while it runs."""
    kept = {}

    def widen(m, *_):
        for p in m.parameters():
            kept[p] = p.data
            p.data = p.data.float()

    def narrow(m, *_):
        for p in m.parameters():
            p.data = kept.pop(p)

    module.register_forward_pre_hook(widen)
    module.register_forward_hook(narrow)


def hpsv3(kind, o):
    from random_qwen import add_reward, old_name, open_tokenizer, run_score
    from safetensors.torch import load_file
    from transformers import AutoConfig, Qwen2VLForConditionalGeneration

    config = AutoConfig.from_pretrained(o.folder)
    state = load_file(os.path.join(o.folder, "HPSv3.safetensors"))  # mapped
    with torch.device("meta"):
        net = Qwen2VLForConditionalGeneration(config).eval()
    net.load_state_dict({k: state[old_name(k)] for k in net.state_dict()}, assign=True)
    rotary = net.model.visual.rotary_pos_emb  # made on no device, like those of the text below
    size = config.vision_config.embed_dim // config.vision_config.num_heads // 2
    rotary.inv_freq = 1.0 / (10000 ** (torch.arange(0, size, 2, dtype=torch.float) / size))
    text = net.model.language_model.rotary_emb
    wide = config.text_config.hidden_size // config.text_config.num_attention_heads
    text.inv_freq = 1.0 / (1e6 ** (torch.arange(0, wide, 2, dtype=torch.float) / wide))
    text.original_inv_freq = text.inv_freq
    if o.exact:
        towers = [*net.model.visual.blocks, net.model.visual.patch_embed, net.model.visual.merger]
        for module in [*towers, *net.model.language_model.layers, net.model.language_model.norm, net.model.language_model.embed_tokens]:
            in_float32(module)
    tokenizer = add_reward(open_tokenizer(o.folder))
    layers = [(state[f"rm_head.{i}.weight"].float(), state[f"rm_head.{i}.bias"].float()) for i in (0, 3, 5)]
    with open(os.path.join(o.folder, "user_text_template.txt")) as f:
        questions = f.read()
    return lambda prompt, rgb: torch.stack([run_score(net, layers, tokenizer, p, prompt, 14, questions)[0] for p in rgb])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["clipscore", "pickscore", "hpsv2", "aesthetic", "imagereward", "hpsv3"])
    parser.add_argument("folder")
    parser.add_argument("--head", help="of aesthetic")
    parser.add_argument("--prompts", required=True, help="a line each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true")
    o = parser.parse_args()
    keep_memory()
    torch.set_num_threads(o.threads)
    with open(o.prompts) as f:
        prompts = f.read().splitlines()
    rgb = pictures(o.pictures, o.side)
    score = {"imagereward": imagereward, "hpsv3": hpsv3}.get(o.kind, clip)(o.kind, o)
    seconds, busy = [], []
    with torch.inference_mode():
        for i in range(1 if o.exact else 0, o.rounds + 1):
            start, before = time.perf_counter(), time.process_time()
            scores = score(prompts[i % len(prompts)], rgb[:1] if o.kind == "hpsv3" and i == 0 else rgb)
            seconds.append(time.perf_counter() - start)
            busy.append(time.process_time() - before)
    median = statistics.median(seconds[not o.exact :])
    row = {"program": "transformers", "reward": o.kind, "pictures": o.pictures, "side": o.side, "rounds": o.rounds, "threads": o.threads}
    row |= {"images_per_second": o.pictures / median, "seconds_per_image": median / o.pictures, "first_seconds": seconds[0]}
    row |= {"processor_seconds_per_image": statistics.median(busy[not o.exact :]) / o.pictures}
    row |= {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "scores": [float(s) for s in scores]}
    print(json.dumps(row))


main()
