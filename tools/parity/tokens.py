"""The tokenizer on 10,000 prompts, against transformers: captions, words of many scripts, emoji, marks, odd spaces, special tokens.

drpo has no verb that prints ids, so a small C program (tokens.c) is compiled with the tokenizer's own sources.
"""

import glob
import random
import subprocess
import sys
import unicodedata

from common import ROOT, check, finish
from transformers import CLIPTokenizer

from tiny import captions

COUNT = 10000
FOLDER = ROOT + "/assets/tiny-turbo/tokenizer"
RANGES = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xE7F), (0x1100, 0x1200), (0x1E00, 0x2070),
          (0x2100, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFB50), (0xFF00, 0xFFF0), (0x1D400, 0x1D800), (0x1F300, 0x1F700)]  # fmt: skip
PIECES = [
    "'s",
    "'LL",
    "!",
    "!!",
    "<|endoftext|>",
    "<|StartOfText|>",
    "İ",
    "ΑΣ",
    "e\u0301",
    "\u1112\u1161\u11ab",
    "10",
    "…",
    "\u200d",
    "\u3000",
    "\t",
]


def known(character):
    """Marks and letters that newer versions of Unicode added are unknown to some library or other."""
    return unicodedata.ucd_3_2_0.category(character) != "Cn" and character not in "\r\n"


def prompts():
    draw = random.Random(5)
    for i in range(COUNT):
        caption = captions.random_caption(draw)["prompt"]
        if i % 4 == 0:
            yield caption
            continue
        words = caption.split()
        for _ in range(draw.randint(1, 5)):
            low, high = draw.choice(RANGES)
            odd = "".join(filter(known, (chr(draw.randrange(low, high)) for _ in range(draw.randint(1, 6)))))
            words.insert(draw.randint(0, len(words)), draw.choice([odd, odd, draw.choice(PIECES), draw.choice(words).upper()]))
        yield draw.choice([" ", " ", "", "  "]).join(words)


def compile_program(path):
    sources = [
        p
        for part in ("model/tokenizer*", "model/unicode*", "model/word_pattern", "base/*", "format/json", "format/utf8")
        for p in glob.glob(f"{ROOT}/src/{part}.c")
    ]
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}/src", f"-I{ROOT}/include"]
    subprocess.run(
        ["cc", *flags, ROOT + "/tools/parity/tokens.c", *sources, "-ljansson", "-lpcre2-8", "-lm", "-lpthread", "-o", path], check=True
    )


work = sys.argv[1]
compile_program(work + "/tokens")
texts = list(prompts())
done = subprocess.run([work + "/tokens", FOLDER], input="\n".join(texts) + "\n", capture_output=True, text=True, check=True)
mine = [[int(x) for x in line.split()] for line in done.stdout.splitlines()]
tokenizer = CLIPTokenizer.from_pretrained(FOLDER)
wanted = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
wrong = [t for t, a, b in zip(texts, mine, wanted) if a != b]
for text in wrong[:5]:
    print("differs:", ascii(text))
check(f"prompts of {len(texts)} with other ids", len(wrong) + abs(len(mine) - len(texts)), 0)
finish()
