"""Golden file of the tokenizer: texts and the ids that transformers' CLIPTokenizer gives them, for the shipped vocabulary.

tests/golden/tokenizer/vectors.json: {"variants": [{"name", "files": {file name: content}, "cases": [{"text", "ids", "truncated"}]}]}. The shipped
variant has no files of its own; the others change tokenizer_config.json and special_tokens_map.json as folders in the wild do.
"""

import json
import os
import random
import shutil
import tempfile

from transformers import CLIPTokenizer

from common import ASSETS, GOLDEN

FOLDER = ASSETS + "/tiny-turbo/tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"

TEXTS = [
    "",
    " ",
    "a",
    "a photo of a red circle and a blue star",
    "A PHOTO of Three Hearts",
    "  a   photo\tof\na\r\nstar  ",
    "circle,square;star.",
    "hello!",
    "!",
    "!!",
    "a!b",
    "?!?",
    "wow!!! a star",
    '"quoted" (text) [x] {y}',
    "a/b\\c|d~e`f^g_h",
    "#hashtag @name $5 50% 3+4=7",
    "_x_ --flag",
    "10 stars",
    "1234567890",
    "3D 4k 8K",
    "x2y3",
    "½ ² ⅷ ٣ 三",
    "it's I'll I've you're he'd I'm don't can't",
    "IT'S",
    "'s",
    "''s",
    "a'sb",
    "don’t “quoted” – dash — …",
    "rock'n'roll",
    "café",
    "cafe\u0301",
    "CAFÉ",
    "ÅNGSTRÖM A\u030aNGSTRO\u0308M",
    "Å \u212b",
    "ﬁ ligature",
    "Straße STRASSE ẞ",
    "İstanbul ı I",
    "ΣΑΣ ΌΔΟΣ σς",
    "Привет, МИР!",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "中文字符",
    "一张红色圆圈的照片",
    "日本語 ひらがな カタカナ ガ カ\u3099",
    "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "Tiếng Việt",
    "q\u0323\u0307 q\u0307\u0323 \u1e0b\u0323",
    "😀",
    "a 😀 star ❤️ 👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "x\u00a0y\u2003z\u3000w\u200bv\ufeffu",
    "\u2028\u2029\u0085",
    "\x01\x02\x1f\x7f",
    "\u0301 mark first",
    "a\u030d\u0301 a\u0323\u030d\u0301",
    "a\u0300\u0301\u0302\u0303",
    "🏴\U000e0067\U000e007f",
    "\U0001d54f \U0001d7d9 𐐀 𐐨",
    "\ufffd \U0010ffff",
    START,
    END,
    f"a {END} b",
    f"x{END}",
    f"{START}a star{END}",
    "<|EndOfText|> star",
    "!!<|EndOfText|>!!",
    "<|STARTOFTEXT|>?",
    "<|endoftext>",
    "<|endoftext |>",
    "< |endoftext|>",
    "photo of",
    "photophoto",
    "starstarstar",
    "purplepurple redred",
    "a" * 200,
    "star " * 40,
    "ab" * 100,
    "a " * 29,
    "a " * 30,
    "a " * 31,
    "!" * 29,
    "!" * 30,
    "!" * 31,
    "é" * 50,
    "word" * 500,
]


def random_texts(count):
    draw = random.Random(7)
    words = "a photo of the red blue purple circle star stars heart three four left right above and with in on".split()
    odd = [
        "'s",
        "'ll",
        "!",
        "?",
        ",",
        " ",
        "  ",
        "\n",
        "É",
        "e\u0301",
        "ß",
        "7",
        "42",
        "中",
        "😀",
        "-",
        "…",
        END,
        "<|ENDOFTEXT|>",
        "\u0301",
        "ǅ",
        "가",
        "\u1100",
        "\u1161",
    ]
    for _ in range(count):
        yield "".join(draw.choice(words) + " " if draw.random() < 0.5 else draw.choice(odd) for _ in range(draw.randint(1, 14)))


def token(text, normalized):
    return {"content": text, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


def variants():
    plain = {"model_max_length": 12, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    roles = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!"}
    added = {
        "0": {**token("!", False), "special": True},
        "655": {**token(START, True), "special": True},
        "656": {**token(END, True), "special": True},
    }
    yield "shipped", None
    yield "end of text pads", {"tokenizer_config.json": {**plain, "pad_token": END}}
    yield "old map with normalized tokens", {
        "tokenizer_config.json": plain,
        "special_tokens_map.json": {
            "bos_token": token(START, True),
            "eos_token": token(END, True),
            "unk_token": token(END, True),
            "pad_token": END,
        },
    }
    yield "old map, padding of its own", {
        "tokenizer_config.json": plain,
        "special_tokens_map.json": {
            "bos_token": token(START, True),
            "eos_token": token(END, True),
            "unk_token": token(END, True),
            "pad_token": "!",
        },
    }
    yield "map goes before config", {
        "tokenizer_config.json": {**plain, "pad_token": END},
        "special_tokens_map.json": {"pad_token": "!"},
    }
    yield "added tokens go before the map", {
        "tokenizer_config.json": {**plain, **roles, "added_tokens_decoder": added},
        "special_tokens_map.json": {"bos_token": token(START, False), "eos_token": token(END, False), "pad_token": END},
    }
    yield "three letters", small_vocabulary()


def small_vocabulary():
    """Few letters, so that equal pairs overlap and most bytes are unknown."""
    letters = ["a", "b", "c"]
    merges = [
        ("a", "a"),
        ("a", "a</w>"),
        ("aa", "aa"),
        ("b", "c"),
        ("a", "b"),
        ("ab", "c"),
        ("b", "c</w>"),
        ("aa", "bc</w>"),
        ("c", "a"),
    ]
    tokens = letters + [x + "</w>" for x in letters] + [x + y for x, y in merges] + [START, END]
    return {
        "vocab.json": {t: i for i, t in enumerate(tokens)},
        "merges.txt": "#version: 0.2\n" + "".join(f"{x} {y}\n" for x, y in merges),
        "tokenizer_config.json": {"model_max_length": 20, "tokenizer_class": "CLIPTokenizer"},
    }


def letter_texts():
    draw = random.Random(8)
    yield from ["a", "aa", "aaa", "aaaa", "aaaaa", "aaaaaaa", "abc", "abca", "caab", "abcabc", "xyz", "a7b", "aé"]
    for _ in range(60):
        yield "".join(draw.choice("aaabbcc x") for _ in range(draw.randint(3, 16)))


def encode(folder, texts):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    length = tokenizer.model_max_length
    for text in texts:
        full = tokenizer(text).input_ids
        ids = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
        yield {"text": text, "ids": ids, "truncated": len(full) > length}


def main():
    result = []
    for name, files in variants():
        if files is None:
            cases = list(encode(FOLDER, TEXTS + list(random_texts(60))))
        else:
            with tempfile.TemporaryDirectory() as folder:
                for f in ("vocab.json", "merges.txt"):
                    shutil.copy(os.path.join(FOLDER, f), folder)
                for f, content in files.items():
                    with open(os.path.join(folder, f), "w") as out:
                        out.write(content if isinstance(content, str) else json.dumps(content))
                own = letter_texts() if "vocab.json" in files else (t for t in TEXTS if "!" in t or "<" in t or len(t) < 3)
                cases = list(encode(folder, own))
        result.append({"name": name, "files": files or {}, "cases": cases})
    os.makedirs(GOLDEN + "/tokenizer", exist_ok=True)
    with open(GOLDEN + "/tokenizer/vectors.json", "w") as f:
        f.write('{"variants": [\n')
        for i, v in enumerate(result):
            f.write(
                (",\n" if i else "") + '{"name": %s, "files": %s, "cases": [\n' % (json.dumps(v["name"]), json.dumps(v["files"]))
            )
            f.write(",\n".join(json.dumps(c) for c in v["cases"]) + "\n]}")
        f.write("\n]}\n")
    print([(v["name"], len(v["cases"])) for v in result])


if __name__ == "__main__":
    main()
