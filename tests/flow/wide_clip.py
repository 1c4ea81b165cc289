"""Writes a CLIP model with 100 MB of weights that mean nothing, without any library: wide_clip.py FOLDER. Its tokenizer is the tests' own."""

import array
import json
import os
import random
import struct
import sys

TEXT, VISION, LAYERS, EMBEDDING, IMAGE, PATCH = 64, 512, 8, 32, 64, 16


def linear(name, out, wide=0):
    yield name + ".weight", (out, wide) if wide else (out,)
    yield name + ".bias", (out,)


def tower(prefix, width, layers):
    for i in range(layers):
        p = f"{prefix}.encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(p + "self_attn." + name, width, width)
        yield from linear(p + "mlp.fc1", 4 * width, width)
        yield from linear(p + "mlp.fc2", width, 4 * width)
        yield from linear(p + "layer_norm1", width)
        yield from linear(p + "layer_norm2", width)


def tensors():
    yield from tower("text_model", TEXT, 1)
    yield from tower("vision_model", VISION, LAYERS)
    yield "text_model.embeddings.token_embedding.weight", (657, TEXT)
    yield "text_model.embeddings.position_embedding.weight", (77, TEXT)
    yield from linear("text_model.final_layer_norm", TEXT)
    yield "vision_model.embeddings.class_embedding", (VISION,)
    yield "vision_model.embeddings.patch_embedding.weight", (VISION, 3, PATCH, PATCH)
    yield "vision_model.embeddings.position_embedding.weight", ((IMAGE // PATCH) ** 2 + 1, VISION)
    yield from linear("vision_model.pre_layrnorm", VISION)
    yield from linear("vision_model.post_layernorm", VISION)
    yield "text_projection.weight", (EMBEDDING, TEXT)
    yield "visual_projection.weight", (EMBEDDING, VISION)
    yield "logit_scale", ()


folder = sys.argv[1]
sizes = {"hidden_act": "gelu", "projection_dim": EMBEDDING}
text = dict(sizes, hidden_size=TEXT, intermediate_size=4 * TEXT, num_hidden_layers=1, num_attention_heads=2, vocab_size=657, max_position_embeddings=77, bos_token_id=655, eos_token_id=656)
vision = dict(sizes, hidden_size=VISION, intermediate_size=4 * VISION, num_hidden_layers=LAYERS, num_attention_heads=8, image_size=IMAGE, patch_size=PATCH)
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "config.json"), "w") as f:
    json.dump({"model_type": "clip", "projection_dim": EMBEDDING, "text_config": text, "vision_config": vision}, f)
header, at = {}, 0
for name, shape in tensors():
    count = 1
    for n in shape:
        count *= n
    header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + 4 * count]}
    at += 4 * count
random.seed(1)
block = array.array("f", (random.gauss(0, 0.04) for _ in range(1 << 16))).tobytes()
head = json.dumps(header).encode()
head += b" " * (-len(head) % 8)
with open(os.path.join(folder, "model.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(head)) + head)
    while at > 0:
        f.write(block[:at])
        at -= len(block)
