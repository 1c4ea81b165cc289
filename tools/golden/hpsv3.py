"""Golden case hpsv3/: a whole model folder in HPSv3's layout, tiny and random, and what transformers computes with it.

Tokenizer: a byte-level vocabulary learnt from a few lines; vectors.json has texts and the ids of transformers' Qwen2Tokenizer.
io.safetensors: `patches`, `states`, angles and positions of both towers alone; `picture.<i>` [H,W,3] with `score.<i>`, all the
way from the pixels and the prompt in prompts.json. The vision tower, the decoder and Qwen2-VL's own picture processor are
transformers'; the head is three linear layers.
"""

import json
import os
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from common import GOLDEN, normal, randomize, write_io
from random_qwen import MERGE, REWARD, SPECIAL, add_reward, old_name, open_tokenizer, picture, run_score

FOLDER = os.path.join(GOLDEN, "hpsv3")
QUESTIONS = "\nHow good is this picture? \n- **Detail:** look closely.\nPrompt - {text_prompt}\n\n\nThe rating: <|Reward|>\n\nEND\n"
PATCH = 4
PROMPTS = ["a photo of a red star", "", "two  cats,\n3 dogs & café 日本", "it's  {braces} "]
SIZES = [(40, 40), (33, 70), (64, 25), (40, 40)]  # height, width

TEXTS = [
    "",
    "a",
    " a",
    "a photo of a red star",
    "A photo, of\tFour  (4) sports-balls!!",
    "it's I'LL they've we'd 'm 's don't 'Tis 'ſ",
    "1234 567 3D x2 ½²ⅷ٣三",
    "line\nline\r\n\r\n  next \n  indented\n\n\n",
    "trailing   ",
    "   leading",
    "a  b   c    d",
    "tab\t\tand\u00a0nbsp\u3000wide\u2028separator\u0085nel\u180esep",
    "cafe\u0301 CAFÉ Å \u212b ﬁ",
    "日本語 Привет שלום مرحبا 👩\u200d🎨 🎉🎉",
    "**bold:** - item; [x] {y} <z> a/b\\c",
    "<|im_start|>user\nhello<|im_end|>\n",
    "x<|image_pad|><|image_pad|> y <|im_end",
    "!\n\n?\r\n ...\n",
    "don't\u2019s",
    "\u0300lone mark",
]


def make_tokenizer():
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([QUESTIONS, *PROMPTS, *TEXTS, "system You are a helpful assistant. user a photo of four stars and two cats"], vocab_size=360, min_frequency=2)
    bpe.save_model(FOLDER)
    tokenizer = open_tokenizer(FOLDER)
    added = {str(tokenizer.convert_tokens_to_ids(t)): {"content": t, "special": True} for t in SPECIAL}
    with open(os.path.join(FOLDER, "tokenizer_config.json"), "w") as f:
        json.dump({"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}, f, indent=1)
        f.write("\n")
    with open(os.path.join(FOLDER, "vectors.json"), "w") as f:
        json.dump([{"text": t, "ids": tokenizer(t).input_ids} for t in TEXTS], f, indent=0)
        f.write("\n")
    return add_reward(tokenizer)


def make_network(vocab):
    config = Qwen2VLConfig(
        text_config=dict(
            vocab_size=vocab,
            hidden_size=48,
            intermediate_size=56,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 1]},
        ),
        vision_config=dict(depth=2, embed_dim=32, num_heads=4, hidden_size=48, mlp_ratio=2, patch_size=PATCH, spatial_merge_size=MERGE, temporal_patch_size=2),
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    return randomize(Qwen2VLForConditionalGeneration(config), 700)


def head_layers():
    sizes, layers = [(48, 24), (24, 16), (16, 2)], []
    for i, (n, m) in enumerate(sizes):
        layers.append((normal(710 + i, m, n) * (1.5 / n**0.5), normal(720 + i, m) * 0.3))
    return layers


def run_towers(net, inputs, outputs):
    """Each tower alone: a grid that is not square, and positions that differ from axis to axis."""
    rows, columns = 4, 6
    patches = normal(730, rows * columns, 3 * 2 * PATCH * PATCH)
    image = net.model.visual(patches, grid_thw=torch.tensor([[1, rows, columns]]))
    states = normal(731, 1, 9, 48)
    position = torch.tensor([[0, 1, 2, 2, 2, 2, 4, 5, 6], [0, 1, 2, 2, 3, 3, 4, 5, 6], [0, 1, 2, 3, 2, 3, 4, 5, 300]])
    decoded = net.model.language_model(inputs_embeds=states, position_ids=position[:, None]).last_hidden_state
    inputs.update(patches=patches[None], states=states, position=position)
    outputs.update(cells=getattr(image, "pooler_output", image)[None], decoded=decoded)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    with open(os.path.join(FOLDER, "user_text_template.txt"), "w") as f:
        f.write(QUESTIONS)
    with torch.no_grad():
        tokenizer = make_tokenizer()
        net, layers = make_network(len(tokenizer)), head_layers()
        tensors = {old_name(k): v.half() for k, v in net.state_dict().items()}
        for i, (w, b) in zip((0, 3, 5), layers):
            tensors[f"rm_head.{i}.weight"], tensors[f"rm_head.{i}.bias"] = w.float(), b.float()
        layers = [(w.float().double(), b.float().double()) for w, b in layers]
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, os.path.join(FOLDER, "HPSv3.safetensors"))
        old = {
            "architectures": ["Qwen2VLForConditionalGeneration"],
            "model_type": "qwen2_vl",
            "hidden_act": "silu",
            "hidden_size": 48,
            "intermediate_size": 56,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 2, 1]},
            "use_sliding_window": False,
            "vocab_size": len(tokenizer),
            "vision_config": {"depth": 2, "embed_dim": 32, "mlp_ratio": 2, "num_heads": 4, "in_chans": 3, "hidden_size": 48, "patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": 2},
        }
        with open(os.path.join(FOLDER, "config.json"), "w") as f:
            json.dump(old, f, indent=1)
            f.write("\n")
        inputs, outputs = {}, {}
        run_towers(net, inputs, outputs)
        for i, (size, prompt) in enumerate(zip(SIZES, PROMPTS)):
            pixels = picture(i, *size)
            inputs[f"picture.{i}"] = torch.from_numpy(pixels).int()
            outputs[f"score.{i}"] = run_score(net, layers, tokenizer, pixels, prompt, PATCH, QUESTIONS)
            print(prompt, outputs[f"score.{i}"])
        with open(os.path.join(FOLDER, "prompts.json"), "w") as f:
            json.dump(PROMPTS, f)
            f.write("\n")
        write_io("hpsv3", inputs, outputs)
