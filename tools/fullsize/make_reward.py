"""Writes a reward model of the true size with random weights, for measuring time and memory without the published files.

    python3 make_reward.py clip-l FOLDER [--seed N]                    # 1.7 GB in float32, for clipscore and aesthetic
    python3 make_reward.py clip-h FOLDER, pickscore FOLDER             # 3.9 GB in float32
    python3 make_reward.py hpsv2 FOLDER                                # HPS_v2.1_compressed.pt, 2 GB in float16: the numbers of clip-h
    python3 make_reward.py aesthetic FOLDER                            # the head alone
    python3 make_reward.py imagereward FOLDER [--layers N]             # 1.8 GB in float32
    python3 make_reward.py hpsv3 FOLDER [--layers N]                   # 16.6 GB in bfloat16; N layers in each tower instead of 32 and 28

Tokenizers are the small ones of the tests. They cut texts into more pieces, so HPSv3's user text is one of the length that the authors'
has in the published vocabulary (about 600 tokens); CLIP reads 77 tokens whatever the text."""

import argparse
import json
import os
import shutil
import struct
import sys

import numpy as np
import torch

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "golden")
BLOCK = 1 << 24
BRANCH_ENDS = ("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight", "output.dense.weight", "out_proj.weight")
NORMS = ("norm", "ln_q", "Norm")
TEXT_TOKENS = 600
CLIP = {  # width, layers, heads of both towers; embedding
    "clip-l": dict(text=(768, 12, 12), vision=(1024, 24, 16), embedding=768, act="quick_gelu"),
    "clip-h": dict(text=(1024, 24, 16), vision=(1280, 32, 16), embedding=1024, act="gelu"),
}
CLIP_VOCAB, CLIP_TOKENS = 49408, 77


def clip_shapes(size):
    for tower in ("text", "vision"):
        width, layers, _ = size[tower]
        for i in range(layers):
            p = f"{tower}_model.encoder.layers.{i}."
            for name in ("q", "k", "v", "out"):
                yield from linear(f"{p}self_attn.{name}_proj", width, width)
            yield from linear(p + "mlp.fc1", 4 * width, width)
            yield from linear(p + "mlp.fc2", width, 4 * width)
            yield from linear(p + "layer_norm1", width)
            yield from linear(p + "layer_norm2", width)
    text, vision = size["text"][0], size["vision"][0]
    yield "text_model.embeddings.token_embedding.weight", (CLIP_VOCAB, text)
    yield "text_model.embeddings.position_embedding.weight", (CLIP_TOKENS, text)
    yield from linear("text_model.final_layer_norm", text)
    yield "vision_model.embeddings.class_embedding", (vision,)
    yield "vision_model.embeddings.patch_embedding.weight", (vision, 3, 14, 14)
    yield "vision_model.embeddings.position_embedding.weight", (257, vision)
    yield from linear("vision_model.pre_layrnorm", vision)
    yield from linear("vision_model.post_layernorm", vision)
    yield "text_projection.weight", (size["embedding"], text)
    yield "visual_projection.weight", (size["embedding"], vision)
    yield "logit_scale", ()


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


def make_tokenizer(folder):
    """The tests' own, told to write 77 tokens; its last one ends a text."""
    source = os.path.join(ROOT, "tests", "fixtures", "tiny-turbo", "tokenizer")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = os.path.join(folder, "tokenizer_config.json")
    with open(path) as f:
        config = json.load(f)
    config["model_max_length"] = CLIP_TOKENS
    with open(path, "w") as f:
        json.dump(config, f, indent=1)
    with open(os.path.join(folder, "vocab.json")) as f:
        return len(json.load(f))


def write_config(folder, size):
    tokens = make_tokenizer(folder)

    def tower(kind):
        width, layers, heads = size[kind]
        return dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads, hidden_act=size["act"], projection_dim=size["embedding"])  # fmt: skip

    text = dict(vocab_size=CLIP_VOCAB, max_position_embeddings=CLIP_TOKENS, bos_token_id=tokens - 2, eos_token_id=tokens - 1, pad_token_id=0)
    config = dict(
        architectures=["CLIPModel"],
        model_type="clip",
        projection_dim=size["embedding"],
        text_config=tower("text") | text,
        vision_config=tower("vision") | dict(image_size=224, patch_size=14),
    )
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)


def make_clip(folder, size, seed):
    write_config(folder, size)
    write(os.path.join(folder, "model.safetensors"), list(clip_shapes(size)), "F32", seed)


def make_hpsv2(folder, seed):
    sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))
    from random_clip import openclip_names

    write_config(folder, CLIP["clip-h"])  # for the small tokenizer's sake, whose last token ends a text
    random, state = np.random.default_rng(seed), {}
    block = random.standard_normal(BLOCK, dtype=np.float32)
    for name, shape in clip_shapes(CLIP["clip-h"]):
        values = np.concatenate([v.astype(np.float16) for v in pieces(name, shape, block, random)])
        state[name] = torch.from_numpy(values).reshape(shape)
    torch.save({"state_dict": openclip_names(state)}, os.path.join(folder, "HPS_v2.1_compressed.pt"))


def make_aesthetic(folder, seed):
    draw, state = torch.Generator().manual_seed(seed), {}
    for i, out, wide in ((0, 1024, 768), (2, 128, 1024), (4, 64, 128), (6, 16, 64), (7, 1, 16)):
        state[f"layers.{i}.weight"] = torch.randn(out, wide, generator=draw) / wide**0.5
        state[f"layers.{i}.bias"] = torch.randn(out, generator=draw) * 0.05
    torch.save(state, os.path.join(folder, "sac+logos+ava1-l14-linearMSE.pth"))


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
    parse.add_argument("model", choices=["clip-l", "clip-h", "pickscore", "hpsv2", "aesthetic", "imagereward", "hpsv3"])
    parse.add_argument("folder")
    parse.add_argument("--layers", type=int, default=32, help="of imagereward and hpsv3")
    parse.add_argument("--vocab", type=int, default=151658, help="rows of HPSv3's token table")
    parse.add_argument("--seed", type=int, default=0)
    o = parse.parse_args()
    os.makedirs(o.folder, exist_ok=True)
    if o.model == "hpsv3":
        make_hpsv3(o.folder, o.layers, o.seed, o.vocab)
    elif o.model == "imagereward":
        make_imagereward(o.folder, o.layers, o.seed)
    elif o.model == "hpsv2":
        make_hpsv2(o.folder, o.seed)
    elif o.model == "aesthetic":
        make_aesthetic(o.folder, o.seed)
    else:
        make_clip(o.folder, CLIP["clip-l" if o.model == "clip-l" else "clip-h"], o.seed)
