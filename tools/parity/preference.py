"""HPSv3 and ImageReward at the published widths, random weights, 2 layers in each network (PREFERENCE_LAYERS=N): `drpo score` against
transformers in float32 on pictures resized by Pillow, and the seconds of both for one picture."""

import json
import os
import sys
import time

import numpy as np
import torch
from common import ROOT, check, drpo, finish
from PIL import Image
from safetensors.torch import load_file
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, Qwen2VLConfig, Qwen2VLForConditionalGeneration

sys.path[:0] = [os.path.join(ROOT, "tools", "golden"), os.path.join(ROOT, "tools", "fullsize")]
import make_reward  # noqa: E402
import random_blip  # noqa: E402
import random_qwen  # noqa: E402

work = sys.argv[1]
LAYERS = int(os.environ.get("PREFERENCE_LAYERS", "2"))
SIZES = [(512, 512), (300, 411)]  # height, width
PROMPT = "a photo of a red star"


def picture_files():
    names = []
    for i, (h, w) in enumerate(SIZES):
        names.append(os.path.join(work, f"{i}.png"))
        Image.fromarray(random_qwen.picture(i, h, w)).save(names[-1])
    return names


def seconds(run):
    start = time.monotonic()
    run()
    return time.monotonic() - start


def ours(spec, names):
    return [json.loads(line)["reward"] for line in drpo("score", "--reward", spec, "--prompt", PROMPT, *names).splitlines()]


def compare(kind, folder, names, reference, limit):
    """Three pictures less one: what starting takes is not counted."""
    spec = f"{kind}:{folder}"
    wanted = [float(reference(np.asarray(Image.open(n)))) for n in names]
    check(f"{kind}, {LAYERS} layers: score", max(abs(a - b) for a, b in zip(ours(spec, names), wanted)), limit)
    one, three = seconds(lambda: ours(spec, names[:1])), seconds(lambda: ours(spec, names[:1] * 3))
    theirs = seconds(lambda: reference(np.asarray(Image.open(names[0]))))
    print(f"   {kind}, {LAYERS} layers: {(three - one) / 2:.2f} s a picture, transformers in float32 {theirs:.2f} s", flush=True)


def run_hpsv3(names):
    folder = os.path.join(work, "hpsv3")
    os.makedirs(folder)
    make_reward.make_hpsv3(folder, LAYERS, 1, 1000)
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    text = {k: c[k] for k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps")}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": c["rope_theta"], "mrope_section": c["rope_scaling"]["mrope_section"]}
    vision = {k: c["vision_config"][k] for k in ("depth", "embed_dim", "mlp_ratio", "num_heads", "hidden_size", "patch_size")}
    with torch.device("meta"):
        net = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False))
    weights = {k: v.float() for k, v in load_file(os.path.join(folder, "HPSv3.safetensors")).items()}
    layers = [(weights.pop(f"rm_head.{i}.weight"), weights.pop(f"rm_head.{i}.bias")) for i in (0, 3, 5)]
    net = net.to_empty(device="cpu").float().eval()
    net.load_state_dict({name: weights[random_qwen.old_name(name)] for name in net.state_dict()})
    for module in (net.model.visual.rotary_pos_emb, net.model.language_model.rotary_emb):
        module.__init__(module.config)  # frequencies are no weights: to_empty lost them
    with open(os.path.join(folder, "user_text_template.txt")) as f:
        questions = f.read()
    tokenizer = random_qwen.add_reward(random_qwen.open_tokenizer(folder))
    compare("hpsv3", folder, names, lambda x: random_qwen.run_score(net, layers, tokenizer, x, PROMPT, 14, questions)[0], 1e-4)


def run_imagereward(names):
    folder = os.path.join(work, "imagereward")
    os.makedirs(folder)
    make_reward.make_imagereward(folder, LAYERS, 2)
    weights = load_file(os.path.join(folder, "ImageReward.safetensors"))
    vision = BlipVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=min(24, LAYERS), num_attention_heads=16, image_size=224, patch_size=16, layer_norm_eps=1e-6)
    text = BlipTextConfig(vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072, num_hidden_layers=min(12, LAYERS), num_attention_heads=12, max_position_embeddings=512, layer_norm_eps=1e-12, is_decoder=True)
    vision, text = BlipVisionModel(vision).eval(), BlipTextModel(text, add_pooling_layer=False).eval()
    vision.load_state_dict({k: weights[random_blip.vision_name(k)] for k in vision.state_dict()})
    text.load_state_dict({k: weights["blip.text_encoder." + k] for k in text.state_dict()})
    layers = {k: v for k, v in weights.items() if k.startswith("mlp.")}
    with open(os.path.join(folder, "vocab.txt")) as f:
        tokenizer = BertTokenizer(vocab={line.rstrip("\n"): i for i, line in enumerate(f)})

    def reference(pixels):
        batch = tokenizer([PROMPT], padding="max_length", truncation=True, max_length=35, return_tensors="pt")
        states = vision(random_blip.prepare(pixels, 224).float()).last_hidden_state
        out = random_blip.read(text, batch.input_ids, batch.attention_mask, states)
        return (random_blip.head(layers, out[0, 0].double())[0] - random_blip.MEAN) / random_blip.DEVIATION

    compare("imagereward", folder, names, reference, 1e-5)


with torch.no_grad():
    names = picture_files()
    run_imagereward(names)
    run_hpsv3(names)
finish()
