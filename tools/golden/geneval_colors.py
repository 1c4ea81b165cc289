"""Golden cases of GenEval's colors: objects cut out of pictures, named by the CLIP of `clip_model/` with transformers, Pillow and
torchvision's transforms. Texts, crops and averages are those of the benchmark; texts and pictures in float64.

`picture` 1 is painted so that tests/step/fake_detector.py sees its rectangles as objects.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from transformers import CLIPModel, CLIPTokenizer

from common import FIRST, GOLDEN, normal, write_io
from random_clip import MEAN, STD, features

CASE, HEIGHT, WIDTH, SIZE = "geneval_colors", 48, 100, 21
COLORS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]
NUMBER = {"bicycle": 1, "traffic light": 9, "cat": 15, "dog": 16, "orange": 49}  # in the detector's order

# picture, class, box (x1, y1, x2, y2), ellipse as mask
OBJECTS = [
    (0, "cat", (4, 3, 34, 33), True),
    (0, "cat", (50.5, 10, 73.5, 44), True),  # rounds to 50 and 74
    (0, "dog", (40, 20, 96, 32), False),  # long: its ends are not seen
    (0, "dog", (80, 1, 92, 47), True),
    (0, "traffic light", (90, -4, 104, 30), False),  # black outside the picture
    (0, "bicycle", (3, 40, 95, 41), False),  # one row
    (0, "bicycle", (60, 2, 62, 46), False),
    (0, "orange", (0, 0, 100, 48), True),
    (0, "dog", (10, 10, 16, 18), False),
    (1, "dog", (6, 8, 30, 40), False),
    (1, "cat", (50, 4, 90, 30), False),
]


def pictures():
    x = F.interpolate(normal(990, 1, 3, 8, 14), (HEIGHT, WIDTH), mode="bicubic") * 110 + 128
    x = x.round().clamp(0, 255).byte()[0].permute(1, 2, 0)
    painted = torch.zeros_like(x)
    for (picture, name, (x1, y1, x2, y2), _), color in zip(OBJECTS[-2:], (3, 7)):
        painted[y1:y2, x1:x2] = torch.tensor([NUMBER[name] + 1, 240, color], dtype=torch.uint8)
    return torch.stack([x, painted])


def inside(box, masked):
    """An ellipse in the box, or everything."""
    if not masked:
        return np.ones((HEIGHT, WIDTH), dtype=bool)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    (x1, y1, x2, y2) = box
    return ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 < 1


def embed_object(net, rgb, box, mask):
    whole = Image.fromarray(rgb)
    ground = Image.new("RGB", whole.size, "#999")
    cut = Image.composite(whole, ground, Image.fromarray(mask)).crop(box)
    prepare = transforms.Compose([transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(SIZE)])
    pixels = torch.from_numpy(np.array(prepare(cut), dtype=np.float64)).permute(2, 0, 1) / 255
    return F.normalize(net.visual_projection(net.vision_model(pixel_values=((pixels - MEAN) / STD)[None]).pooler_output)[0], dim=0)


def color_vectors(net, tokenizer, name):
    rows = []
    for color in COLORS:
        texts = [f"a photo of a {color} {name}", f"a photo of a {color}-colored {name}", f"a photo of a {color} object"]
        ids = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        text = net.text_projection(net.text_model(input_ids=ids).pooler_output)
        rows.append(F.normalize(F.normalize(text, dim=-1).mean(0), dim=0))
    return torch.stack(rows)


if __name__ == "__main__":
    tokenizer = CLIPTokenizer.from_pretrained(FIRST, subfolder="tokenizer")
    net = CLIPModel.from_pretrained(os.path.join(GOLDEN, "clip_model"), dtype=torch.float64, attn_implementation="eager").eval()
    pixels, cosines = pictures().numpy(), []
    with torch.no_grad():
        for picture, name, box, masked in OBJECTS:
            image = embed_object(net, pixels[picture], box, inside(box, masked))
            cosines.append(color_vectors(net, tokenizer, name) @ image)
    cosines = torch.stack(cosines)
    best = cosines.topk(2).values
    print("colors", [COLORS[k] for k in cosines.argmax(1)], "leads", (best[:, 0] - best[:, 1]).tolist())
    inputs = {
        "pictures": torch.from_numpy(pixels).int(),
        "picture": torch.tensor([o[0] for o in OBJECTS]).int(),
        "class": torch.tensor([NUMBER[o[1]] for o in OBJECTS]).int(),
        "box": torch.tensor([o[2] for o in OBJECTS], dtype=torch.float32),
        "masked": torch.tensor([o[3] for o in OBJECTS]).int(),
    }
    write_io(CASE, inputs, {"cosine": cosines, "color": cosines.argmax(1).int()})
    os.chmod(os.path.join(GOLDEN, CASE, "io.safetensors"), 0o644)
