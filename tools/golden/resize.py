"""Golden cases of bicubic resizing: Pillow on 8-bit pictures, torch on floats, and CLIP's preparation of a picture.

Large Pillow results are kept as SHA-256 of their bytes; pictures are made by `picture`, which the test repeats. Sizes keep clear of one
change: Pillow 13 filters columns first where the height shrinks much more than the width; before, rows always came first.
"""

import hashlib
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from common import GOLDEN, normal, write_io

SIZES = [  # width, height, out_width, out_height
    (512, 512, 224, 224),
    (1024, 1024, 224, 224),
    (64, 64, 224, 224),
    (299, 451, 224, 337),
    (640, 48, 224, 224),
    (224, 500, 224, 224),
    (500, 224, 224, 224),
    (224, 224, 224, 224),
    (7, 3, 40, 5),
    (1, 1, 5, 6),
    (1500, 2, 1, 2),
]


def picture(width, height):
    """A congruential sequence with runs of black and white, so that overshoot is clipped."""
    n = np.arange(width * height * 3, dtype=np.uint64)
    v = (n * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(4294967296) >> np.uint64(19)
    return np.clip(v.astype(np.int64) % 700 - 200, 0, 255).astype(np.uint8).reshape(height, width, 3)


def prepared(width, height, rule):
    """Short side to 224, centre crop, CLIP's normalisation."""
    image = Image.fromarray(picture(width, height))
    short = min(width, height)
    size = (224, int(224 * height / width)) if short == width else (int(224 * width / height), 224)
    image = image.resize(size, Image.BICUBIC)
    margin = [size[0] - 224, size[1] - 224]
    left, top = [m // 2 if rule == "floor" else int(round(m / 2)) for m in margin]
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / np.float32(255)
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)


if __name__ == "__main__":
    rows = []
    for w, h, ow, oh in SIZES:
        out = np.asarray(Image.fromarray(picture(w, h)).resize((ow, oh), Image.BICUBIC))
        rows.append([w, h, ow, oh, hashlib.sha256(out.tobytes()).hexdigest()])
    os.makedirs(os.path.join(GOLDEN, "resize"), exist_ok=True)
    with open(os.path.join(GOLDEN, "resize", "pillow.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")

    inputs, outputs = {}, {}
    for name, (h, w), (oh, ow) in (("down", (23, 31), (9, 12)), ("up", (5, 6), (14, 11)), ("mixed", (16, 9), (8, 21))):
        x = normal(700 + h, 2, h, w).requires_grad_()
        for filter, antialias in (("pil", True), ("plain", False)):
            y = F.interpolate(x[None], (oh, ow), mode="bicubic", antialias=antialias, align_corners=False)[0]
            d = normal(800 + oh, *y.shape)
            (grad,) = torch.autograd.grad(y, x, d)
            outputs |= {f"{name}.{filter}": y.detach(), f"{name}.{filter}.grad": grad}
        inputs |= {f"{name}": x.detach(), f"{name}.d": d}
    for name, w, h, rule in (("wide", 301, 200, "floor"), ("tall", 230, 333, "round"), ("square", 64, 64, "floor")):
        outputs[f"clip.{name}"] = prepared(w, h, rule)[:, ::37, ::3].contiguous()
    write_io("resize", inputs, outputs)
