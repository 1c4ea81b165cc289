"""The scene that a piece of noise stands for: a fixed program from latent noise to positions, colours and sizes.

Pretraining pairs are made with it, so no teacher network is needed.
"""

import math

import numpy as np

from tiny.captions import COLORS, RELATIONS, SHAPES


# z is 4x16x16 standard normal.  H[c] = Haar transform of the 2x2 quadrant means of channel c:
# four N(0,1) numbers DC, LR (right-left), UD (bottom-top), X (diagonal) per channel; Q[c] = quadrant means.
def noise_features(z):
    z = np.asarray(z, np.float64).reshape(4, 16, 16)
    q = z.reshape(4, 2, 8, 2, 8).mean((2, 4)) * 8.0  # N(0,1), [c, row, col]
    h = np.stack(
        [
            (q[:, 0, 0] + q[:, 0, 1] + q[:, 1, 0] + q[:, 1, 1]) / 2,
            (q[:, 0, 1] + q[:, 1, 1] - q[:, 0, 0] - q[:, 1, 0]) / 2,
            (q[:, 1, 0] + q[:, 1, 1] - q[:, 0, 0] - q[:, 0, 1]) / 2,
            (q[:, 0, 0] + q[:, 1, 1] - q[:, 0, 1] - q[:, 1, 0]) / 2,
        ],
        1,
    )
    p = z[3].reshape(2, 8, 2, 8)  # channel 3: per-quadrant gradients = jitter
    gx = (p[:, :, :, 4:].mean((1, 3)) - p[:, :, :, :4].mean((1, 3))) * math.sqrt(16)
    gy = (p[:, 4:].mean((1, 3)) - p[:, :4].mean((1, 3))) * math.sqrt(16)
    return q, h, gx, gy


def Phi(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def pick_color(a, b):
    return COLORS[int((math.atan2(b, a) / (2 * math.pi) % 1.0) * 8) % 8]


QUADS = [(0, 0), (0, 1), (1, 0), (1, 1)]  # (row, col)


def scene_from_noise(meta, z, noisy=True, rates=None):
    """The scene that noise z shows for the caption.  noisy=True: captions are unreliable (as web captions
    are): with the rates below the picture disagrees with its caption, decided by channel 2 of the noise."""
    R = dict(single=0.04, two=0.40, count=0.46, color=0.16, rel=0.66, attr=0.62)
    R.update(rates or {})
    q, h, gx, gy = noise_features(z)
    e = Phi(h[2, 0])  # decides whether there is an error
    e2 = Phi(h[2, 1])  # decides which
    tag, inc = meta["tag"], meta["include"]
    colA, colB = pick_color(h[1, 0], h[1, 1]), pick_color(h[1, 2], h[1, 3])
    tone = math.tanh(h[3, 3])
    bg = np.array([0.93, 0.93, 0.92]) + 0.03 * tone
    shade = 0.10 * math.tanh(0.8 * h[3, 1])
    size = math.tanh(0.8 * h[3, 0])
    objs = []

    def put(shape, color, quad):
        r_, c_ = QUADS[quad]
        objs.append(
            dict(
                shape=shape,
                color=color,
                x=16.5 + 31 * c_ + 2.5 * math.tanh(gx[r_, c_]),
                y=16.5 + 31 * r_ + 2.5 * math.tanh(gy[r_, c_]),
                r=10.3 + 1.2 * size,
                shade=shade,
            )
        )

    u = q[0].reshape(-1)  # channel 0 ranks the quadrants
    order = [int(i) for i in np.argsort(-u, kind="stable")]
    if tag in ("single_object", "colors"):
        s, c = inc[0]["class"], inc[0].get("color", colA)
        if noisy:
            if tag == "single_object" and e < R["single"]:
                s = SHAPES[(SHAPES.index(s) + 1) % 8]
            if tag == "colors" and e < R["color"]:
                c = colA
        objs.append(
            dict(
                shape=s,
                color=c,
                x=32 + 10 * math.tanh(0.9 * h[0, 1]),
                y=32 + 10 * math.tanh(0.9 * h[0, 2]),
                r=14 + 2.5 * size,
                shade=shade,
            )
        )
    elif tag == "counting":
        n = inc[0]["count"]
        if noisy and e < R["count"]:
            n = {2: (1 if e2 < 0.5 else 3), 3: (2 if e2 < 0.5 else 4), 4: (3 if e2 < 0.8 else 2)}[n]
        for k in order[:n]:
            put(inc[0]["class"], colA, k)
    elif tag == "position":
        rel = inc[1]["position"][0]
        A, B = inc[1]["class"], inc[0]["class"]
        if noisy and e < R["rel"]:
            rel = RELATIONS[min(3, int(e2 * 4))]
        if noisy and e > 0.90:
            B = None  # the reference object is missing
        if rel in ("left of", "right of"):
            row = 1 if h[0, 2] > 0 else 0
            qa, qb = row * 2, row * 2 + 1
            if rel == "right of":
                qa, qb = qb, qa
        else:
            col = 1 if h[0, 1] > 0 else 0
            qa, qb = col, col + 2
            if rel == "below":
                qa, qb = qb, qa
        put(A, colA, qa)
        if B:
            put(B, colB, qb)
    else:  # two_object, color_attr
        a, b = inc[0], inc[1]
        A, B = a["class"], b["class"]
        ca, cb = a.get("color", colA), b.get("color", colB)
        if noisy and tag == "two_object" and e < R["two"]:
            if e2 < 0.6:
                B = None
            else:
                B = A
        if noisy and tag == "color_attr" and e < R["attr"]:
            if e2 < 0.40:
                ca, cb = cb, ca
            elif e2 < 0.60:
                cb = ca
            elif e2 < 0.80:
                ca = cb
            else:
                B = None
        put(A, ca, order[0])  # A where channel 0 is highest, B where it is lowest
        if B:
            put(B, cb, order[3])
    return {"bg": bg, "objects": objs}
