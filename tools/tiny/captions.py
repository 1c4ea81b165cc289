"""The world of captioned scenes: its shapes, colours and relations, and every kind of caption with GenEval metadata."""

import random

import numpy as np

SIZE = 64
SHAPES = ["circle", "square", "triangle", "star", "heart", "cross", "ring", "moon"]
PLURAL = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
    "ring": "rings",
    "moon": "moons",
}
COLORS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "black"]
PALETTE = np.array(
    [
        [0.86, 0.16, 0.16],
        [0.95, 0.53, 0.10],
        [0.94, 0.86, 0.16],
        [0.16, 0.65, 0.25],
        [0.15, 0.38, 0.88],
        [0.52, 0.20, 0.70],
        [0.96, 0.58, 0.76],
        [0.12, 0.12, 0.14],
    ],
    np.float32,
)
NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATIONS = ["left of", "right of", "above", "below"]
REL_DIR = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
TAGS = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]


def _a(w):
    return ("an " if w[0] in "aeiou" else "a ") + w


def cap_single(s):
    return {"tag": "single_object", "include": [{"class": s, "count": 1}], "exclude": [], "prompt": "a photo of " + _a(s)}


def cap_two(a, b):
    return {
        "tag": "two_object",
        "include": [{"class": a, "count": 1}, {"class": b, "count": 1}],
        "exclude": [],
        "prompt": f"a photo of {_a(a)} and {_a(b)}",
    }


def cap_count(s, n):
    return {
        "tag": "counting",
        "include": [{"class": s, "count": n}],
        "exclude": [{"class": s, "count": n + 1}],
        "prompt": f"a photo of {NUMBERS[n]} {PLURAL[s]}",
    }


def cap_color(s, c):
    return {
        "tag": "colors",
        "include": [{"class": s, "count": 1, "color": c}],
        "exclude": [],
        "prompt": f"a photo of {_a(c)} {s}",
    }


def cap_pos(a, rel, b):  # "a photo of A <rel> B"; as in GenEval the reference object comes first
    return {
        "tag": "position",
        "include": [{"class": b, "count": 1}, {"class": a, "count": 1, "position": [rel, 0]}],
        "exclude": [],
        "prompt": f"a photo of {_a(a)} {rel} {_a(b)}",
    }


def cap_attr(a, ca, b, cb):
    return {
        "tag": "color_attr",
        "include": [{"class": a, "count": 1, "color": ca}, {"class": b, "count": 1, "color": cb}],
        "exclude": [],
        "prompt": f"a photo of {_a(ca)} {a} and {_a(cb)} {b}",
    }


def random_caption(rng):
    t = rng.choice(TAGS)
    s = rng.choice(SHAPES)
    if t == "single_object":
        return cap_single(s)
    if t == "counting":
        return cap_count(s, rng.choice([2, 3, 4]))
    if t == "colors":
        return cap_color(s, rng.choice(COLORS))
    a, b = rng.sample(SHAPES, 2)
    if t == "two_object":
        return cap_two(a, b)
    if t == "position":
        return cap_pos(a, rng.choice(RELATIONS), b)
    ca, cb = rng.sample(COLORS, 2)
    return cap_attr(a, ca, b, cb)


def prompt_lists(seed=7):
    """train / test; ten unordered shape pairs never appear in train for the three two-object tags."""
    rng = random.Random(seed)
    pairs = [(a, b) for i, a in enumerate(SHAPES) for b in SHAPES[i + 1 :]]
    rng.shuffle(pairs)
    held, kept = pairs[:10], pairs[10:]
    both = lambda ps: [p for a, b in ps for p in ((a, b), (b, a))]
    cols = [(s, c) for s in SHAPES for c in COLORS]
    rng.shuffle(cols)
    test, train = [], []
    singles = [cap_single(s) for s in SHAPES]
    counts = [cap_count(s, n) for n in (2, 3, 4) for s in SHAPES]
    test += [singles[i % 8] for i in range(20)]
    test += [cap_two(a, b) for a, b in both(held)]
    test += rng.sample(counts, 20)
    test += [cap_color(s, c) for s, c in cols[:20]]
    test += [cap_pos(a, RELATIONS[i % 4], b) for i, (a, b) in enumerate(both(held))]
    test += [cap_attr(a, *(lambda q: (q[0], b, q[1]))(rng.sample(COLORS, 2))) for a, b in both(held)]
    train += singles + singles
    train += [cap_two(a, b) for a, b in both(kept)] * 2
    train += counts * 4
    train += [cap_color(s, c) for s, c in cols[20:]]
    train += [cap_pos(a, r, b) for a, b in both(kept) for r in RELATIONS]
    train += [cap_attr(a, *(lambda q: (q[0], b, q[1]))(rng.sample(COLORS, 2))) for a, b in both(kept) for _ in range(4)]
    rng.shuffle(train)
    return train, test
