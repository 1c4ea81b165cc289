"""A judge that nobody trains on: numbers and colours by counting pixels, without the verifier's templates, metadata or thresholds.

    --eval-reward 'exec:python3 tools/claims/heldout.py census?images=rgb&name=census'
    --eval-reward 'exec:python3 tools/claims/heldout.py tidy?images=rgb&name=tidy'

census reads the caption: half for the number of blobs, half for the share of foreground pixels in the colours that are named (all, if none is).
tidy looks at the picture alone: how near foreground pixels are to one pure colour, so that ghosts and mixtures cost.
"""
import base64, json, re, sys
import numpy as np

COLOURS = {"red": (.86, .16, .16), "orange": (.95, .53, .10), "yellow": (.94, .86, .16), "green": (.16, .65, .25),
           "blue": (.15, .38, .88), "purple": (.52, .20, .70), "pink": (.96, .58, .76), "black": (.12, .12, .14)}
NAMES, TABLE = list(COLOURS), np.array(list(COLOURS.values()))
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}


def blobs(mask, least=30):
    """4-connected regions of at least `least` pixels, by flooding labels until they rest."""
    h, w = mask.shape
    label = np.where(mask, np.arange(1, h * w + 1).reshape(h, w), 0)
    while True:
        wide = np.pad(label, 1)
        grown = np.where(mask, np.maximum.reduce([label, wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]]), 0)
        if (grown == label).all():
            return int((np.unique(label[label > 0], return_counts=True)[1] >= least).sum())
        label = grown


def look(image):
    """Foreground mask, and of its pixels the nearest colour and how near (1: pure)."""
    edge = np.concatenate([image[:2].reshape(-1, 3), image[-2:].reshape(-1, 3)])
    mask = np.linalg.norm(image - edge.mean(0), axis=-1) > 0.3
    distance = np.linalg.norm(image[mask][:, None] - TABLE, axis=-1)
    return mask, distance.argmin(1), np.exp(-((distance.min(1, initial=9) / 0.2) ** 2))


def census(image, words):
    mask, colour, near = look(image)
    if mask.sum() < 30:
        return 0.0
    wanted = sum(NUMBERS.get(w, 0) for w in words[words.index("of") + 1:])
    named = [NAMES.index(w) for w in words if w in COLOURS]
    shares = [(near * (colour == c)).mean() for c in named]
    # of two colours each should have its part: the smaller share counts twice over
    right = near.mean() if not named else shares[0] if len(named) == 1 else min(1.0, 2 * min(shares))
    return 0.5 * float(blobs(mask) == wanted) + 0.5 * float(right)


def tidy(image, words):
    mask, _, near = look(image)
    return float(near.mean()) if mask.sum() >= 30 else 0.0


judge = {"census": census, "tidy": tidy}[sys.argv[1]]
print(json.dumps({"status": "ready"}), flush=True)
for line in sys.stdin:
    q = json.loads(line)
    images = np.frombuffer(base64.b64decode(q["rgb_b64"]), np.uint8).reshape(q["count"], q["height"], q["width"], 3) / 255
    words = re.findall("[a-z]+", q["prompt"].lower())
    print(json.dumps({"scores": [judge(i, words) for i in images]}), flush=True)
