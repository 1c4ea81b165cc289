"""Golden case imagereward/: ImageReward's checkpoint at a tiny size with random weights, and what transformers' BLIP computes with it.

ImageReward.pt has the published names; vocab.txt is a small WordPiece vocabulary; vectors.json has texts and the ids of
transformers' BertTokenizer, cut at 35. io.safetensors: `pixels`, `ids` -> `picture`, `states`, `value` of the networks alone;
`picture.<i>` [H,W,3] -> `score.<i>` for the prompts of prompts.json. The reference pads texts to 35 tokens, as the authors do.
"""

import json
import os
import shutil
import unicodedata

import torch
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from common import GOLDEN, normal, randomize, write_io
from random_blip import DEVIATION, MEAN, head, prepare, read, vision_name
from random_qwen import picture

FOLDER = os.path.join(GOLDEN, "imagereward")
IMAGE, PATCH, WIDTH, TOKENS = 24, 8, 32, 35
PROMPTS = ["a photo of a red star", "", "A painting of an ocean, with clouds & birds: day-time! " * 4, "Café 日本 zzz"]
SIZES = [(40, 40), (33, 70), (66, 25), (40, 40)]  # height, width; the third is cut where rounding to even matters

TEXTS = [
    "",
    "a",
    "a photo of a red star",
    "A PHOTO, of four (4) sports-balls!!",
    "  white \t\n space\u00a0and\u3000wide\u2028line\u0085 next",
    "café CAFÉ cafe\u0301 ÅNGSTRÖM İstanbul naïve",
    "日本語 and 星 starsです",
    "control\u0007 \u200bjoined\ufeff \ufffd x\u00ady",
    "it's don't “quoted” – dash… ¿qué? a/b\\c_d~e`f^g+h=i<j>k|l$m",
    "\u037e ; ·",
    "stars starlight xqzj qqqqq",
    "a" * 101 + " " + "a" * 100,
    "한국어 שלום مرحبا हिन्दी",
    "👩\u200d🎨 🎉 ★ € №",
    "one two three four five six seven eight nine ten " * 5,
    "\U0002f800 \uf900",
]


def make_tokenizer():
    """Every character of the texts but q, pieces of one letter, some words: unknown words and long ones fall apart."""
    plain = "".join(c for c in unicodedata.normalize("NFD", " ".join(TEXTS + PROMPTS).lower()) if unicodedata.category(c) not in ("Mn", "Cc", "Cf"))
    characters = sorted(set(plain) - set("q \u3000\u00a0\u2028\ufffd"))
    words = "a photo of red star painting an ocean with clouds birds day time light cafe istanbul one two three".split()
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *("##" + c for c in characters if c.isalpha()), *words[1:], "##light", "##s ##ing ##ei"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(" ".join(vocab).split(" ")))}
    with open(os.path.join(FOLDER, "vocab.txt"), "w") as f:
        f.writelines(token + "\n" for token in vocab)
    tokenizer = BertTokenizer(vocab=vocab)
    rows = [{"text": t, "ids": tokenizer(t, truncation=True, max_length=TOKENS).input_ids} for t in TEXTS + PROMPTS]
    with open(os.path.join(FOLDER, "vectors.json"), "w") as f:
        json.dump(rows, f, indent=0)
        f.write("\n")
    return tokenizer


def make_networks(vocab):
    vision = BlipVisionConfig(hidden_size=WIDTH, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, image_size=IMAGE, patch_size=PATCH, layer_norm_eps=1e-6, attn_implementation="eager")
    text = BlipTextConfig(
        vocab_size=vocab + 2,
        hidden_size=24,
        encoder_hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=40,
        layer_norm_eps=1e-12,
        is_decoder=True,
        attn_implementation="eager",
    )
    vision, text = randomize(BlipVisionModel(vision), 800), randomize(BlipTextModel(text, add_pooling_layer=False), 801)
    sizes, layers = [(24, 32), (32, 16), (16, 12), (12, 8), (8, 1)], {}
    for i, (n, m) in zip((0, 2, 4, 6, 7), sizes):
        layers[f"mlp.layers.{i}.weight"] = (normal(810 + i, m, n) * (1.5 / n**0.5)).float()
        layers[f"mlp.layers.{i}.bias"] = (normal(820 + i, m) * 0.3).float()
    return vision, text, layers


def run_networks(vision, text, layers, tokenizer):
    pixels = normal(830, 2, 3, IMAGE, IMAGE)
    ids = torch.randint(5, len(tokenizer), (2, 9), generator=torch.Generator().manual_seed(831))
    states = vision(pixels).last_hidden_state
    out = read(text, ids, torch.ones_like(ids), states)
    return {"pixels": pixels, "ids": ids}, {"picture": states, "states": out, "value": head(layers, out[:, :1])}


def run_score(vision, text, layers, tokenizer, pixels, prompt):
    batch = tokenizer([prompt], padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    states = vision(prepare(pixels, IMAGE)).last_hidden_state
    out = read(text, batch.input_ids, batch.attention_mask, states)
    return (head(layers, out[0, 0]) - MEAN) / DEVIATION


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    with torch.no_grad():
        tokenizer = make_tokenizer()
        vision, text, layers = make_networks(len(tokenizer))
        tensors = {vision_name(k): v.half() for k, v in vision.state_dict().items()}
        tensors.update({"blip.text_encoder." + k: v.half() for k, v in text.state_dict().items() if v.is_floating_point()})
        tensors["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
        tensors["blip.vision_proj.weight"] = torch.zeros(8, WIDTH)
        tensors["blip.text_proj.bias"] = torch.zeros(8)
        tensors.update(layers)
        torch.save({k: v.clone() for k, v in tensors.items()}, os.path.join(FOLDER, "ImageReward.pt"))
        with open(os.path.join(FOLDER, "med_config.json"), "w") as f:
            json.dump({"num_attention_heads": 3, "hidden_size": 24, "layer_norm_eps": 1e-12}, f)
            f.write("\n")
        with open(os.path.join(FOLDER, "prompts.json"), "w") as f:
            json.dump(PROMPTS, f)
            f.write("\n")
        inputs, outputs = run_networks(vision, text, layers, tokenizer)
        for i, (size, prompt) in enumerate(zip(SIZES, PROMPTS)):
            pixels = picture(10 + i, *size)
            inputs[f"picture.{i}"] = torch.from_numpy(pixels).int()
            outputs[f"score.{i}"] = run_score(vision, text, layers, tokenizer, pixels, prompt)
            print(repr(prompt), outputs[f"score.{i}"])
        write_io("imagereward", inputs, outputs)
