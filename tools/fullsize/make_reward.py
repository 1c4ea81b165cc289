"""Writes a folder of the true size of HPSv3 or ImageReward with random weights, for measuring time and memory without the published files.

    python3 make_reward.py hpsv3 FOLDER [--layers N] [--seed N]        # 16.6 GB in bfloat16; N layers in each tower instead of 32 and 28
    python3 make_reward.py imagereward FOLDER [--layers N]             # 1.8 GB in float32

Tokenizers are the small ones of the tests. They cut texts into more pieces, so HPSv3's user text is one of the length that the authors'
has in the published vocabulary (about 600 tokens)."""

import argparse
import json
import os
import shutil
import struct

import numpy as np
import torch

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
BLOCK = 1 << 24
BRANCH_ENDS = ("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight", "output.dense.weight")
NORMS = ("norm", "ln_q", "Norm")
TEXT_TOKENS = 600


def hpsv3_shapes(layers, vocab):
    vision, text = min(32, layers), min(28, layers)
    for i in range(vision):
        p = f"visual.blocks.{i}."
        for norm in ("norm1", "norm2"):
            yield from linear(p + norm, 1280)
        for name, out, wide in (("attn.qkv", 3840, 1280), ("attn.proj", 1280, 1280), ("mlp.fc1", 5120, 1280), ("mlp.fc2", 1280, 5120)):
            yield from linear(p + name, out, wide)
    yield "visual.patch_embed.proj.weight", (1280, 3, 2, 14, 14)
    yield from linear("visual.merger.ln_q", 1280)
    yield from linear("visual.merger.mlp.0", 5120, 5120)
    yield from linear("visual.merger.mlp.2", 3584, 5120)
    yield "model.embed_tokens.weight", (vocab, 3584)
    for i in range(text):
        p = f"model.layers.{i}."
        yield from linear(p + "self_attn.q_proj", 3584, 3584)
        yield from linear(p + "self_attn.k_proj", 512, 3584)
        yield from linear(p + "self_attn.v_proj", 512, 3584)
        for name, out, wide in (("self_attn.o_proj", 3584, 3584), ("mlp.gate_proj", 18944, 3584), ("mlp.up_proj", 18944, 3584), ("mlp.down_proj", 3584, 18944)):
            yield p + name + ".weight", (out, wide)
        yield p + "input_layernorm.weight", (3584,)
        yield p + "post_attention_layernorm.weight", (3584,)
    yield "model.norm.weight", (3584,)
    yield "lm_head.weight", (vocab, 3584)
    for i, out, wide in ((0, 1024, 3584), (3, 16, 1024), (5, 2, 16)):
        yield from linear(f"rm_head.{i}", out, wide)


def imagereward_shapes(layers):
    yield "blip.visual_encoder.cls_token", (1, 1, 1024)
    yield "blip.visual_encoder.pos_embed", (1, 197, 1024)
    yield "blip.visual_encoder.patch_embed.proj.weight", (1024, 3, 16, 16)
    yield "blip.visual_encoder.patch_embed.proj.bias", (1024,)
    for i in range(min(24, layers)):
        p = f"blip.visual_encoder.blocks.{i}."
        for name, out, wide in (("norm1", 1024, 0), ("norm2", 1024, 0), ("attn.qkv", 3072, 1024), ("attn.proj", 1024, 1024), ("mlp.fc1", 4096, 1024), ("mlp.fc2", 1024, 4096)):
            yield from linear(p + name, out, wide)
    yield from linear("blip.visual_encoder.norm", 1024)
    t = "blip.text_encoder."
    yield t + "embeddings.word_embeddings.weight", (30524, 768)
    yield t + "embeddings.position_embeddings.weight", (512, 768)
    yield from linear(t + "embeddings.LayerNorm", 768)
    for i in range(min(12, layers)):
        p = f"{t}encoder.layer.{i}."
        for kind, seen in (("attention.", 768), ("crossattention.", 1024)):
            for name, wide in (("self.query", 768), ("self.key", seen), ("self.value", seen), ("output.dense", 768), ("output.LayerNorm", 0)):
                yield from linear(p + kind + name, 768, wide)
        yield from linear(p + "intermediate.dense", 3072, 768)
        yield from linear(p + "output.dense", 768, 3072)
        yield from linear(p + "output.LayerNorm", 768)
    for i, out, wide in ((0, 1024, 768), (2, 128, 1024), (4, 64, 128), (6, 16, 64), (7, 1, 16)):
        yield from linear(f"mlp.layers.{i}", out, wide)


def linear(name, out, wide=0):
    """wide 0: a norm"""
    yield name + ".weight", (out, wide) if wide else (out,)
    yield name + ".bias", (out,)


def pieces(name, shape, block, random):
    """One normal distribution for all, from another place of the block for each piece: what matters here is size, not chance."""
    count, done = int(np.prod(shape)), 0
    end = 0.3 if name.endswith(BRANCH_ENDS) else 1.0
    table = "embed" in name and len(shape) == 2 and "patch" not in name
    scale = 0.05 if len(shape) == 1 or table else end / np.prod(shape[1:]) ** 0.5
    shift = 1.0 if len(shape) == 1 and name.endswith("weight") and any(n in name for n in NORMS) else 0.0
    while done < count:
        n, at = min(count - done, BLOCK // 2), int(random.integers(BLOCK // 2))
        yield block[at : at + n] * np.float32(scale) + np.float32(shift)
        done += n


def write(path, shapes, dtype, seed):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes:
        end = at + (2 if dtype == "BF16" else 4) * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    block = random.standard_normal(BLOCK, dtype=np.float32)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            for values in pieces(name, shape, block, random):
                f.write((torch.from_numpy(values).bfloat16().view(torch.int16).numpy() if dtype == "BF16" else values).tobytes())
    print(f"{path}: {len(shapes)} tensors, {at / 1e9:.2f} GB", flush=True)


def make_hpsv3(folder, layers, seed, vocab):
    source = os.path.join(GOLDEN, "hpsv3")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    config.update(hidden_size=3584, intermediate_size=18944, num_hidden_layers=min(28, layers), num_attention_heads=28, num_key_value_heads=4, vocab_size=vocab)
    config["rope_scaling"]["mrope_section"] = [16, 24, 24]
    config["vision_config"] = dict(depth=min(32, layers), embed_dim=1280, mlp_ratio=4, num_heads=16, in_chans=3, hidden_size=3584, patch_size=14, spatial_merge_size=2, temporal_patch_size=2)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    with open(os.path.join(folder, "user_text_template.txt"), "w") as f:
        f.write("0" * TEXT_TOKENS + " {text_prompt}\n<|Reward|>\n")  # a digit is a token
    write(os.path.join(folder, "HPSv3.safetensors"), list(hpsv3_shapes(layers, vocab)), "BF16", seed)


def make_imagereward(folder, layers, seed):
    shutil.copyfile(os.path.join(GOLDEN, "imagereward", "vocab.txt"), os.path.join(folder, "vocab.txt"))
    write(os.path.join(folder, "ImageReward.safetensors"), list(imagereward_shapes(layers)), "F32", seed)


if __name__ == "__main__":
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("model", choices=["hpsv3", "imagereward"])
    parse.add_argument("folder")
    parse.add_argument("--layers", type=int, default=32)
    parse.add_argument("--vocab", type=int, default=151658, help="rows of HPSv3's token table")
    parse.add_argument("--seed", type=int, default=0)
    o = parse.parse_args()
    os.makedirs(o.folder, exist_ok=True)
    if o.model == "hpsv3":
        make_hpsv3(o.folder, o.layers, o.seed, o.vocab)
    else:
        make_imagereward(o.folder, o.layers, o.seed)
