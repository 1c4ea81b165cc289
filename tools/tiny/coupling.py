"""The scene that a piece of noise stands for: a fixed program from latent noise to positions, colours and sizes.

Pretraining pairs are made with it, so no teacher network is needed.
"""

import math

import numpy as np

from tiny.captions import COLORS, PALETTE, SHAPES


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


# A colour that the caption leaves open lies on this path, from cold to warm, at the quantile of one number of the noise:
# a regression can learn a continuous rule, and the taste for warm pictures has something to choose from.
OPEN_PATH = PALETTE[[COLORS.index(c) for c in ("blue", "purple", "pink", "red", "orange", "yellow")]]


def open_color(a):
    at = Phi(a) * (len(OPEN_PATH) - 1)
    i = min(int(at), len(OPEN_PATH) - 2)
    return OPEN_PATH[i] + (at - i) * (OPEN_PATH[i + 1] - OPEN_PATH[i])


QUADS = [(0, 0), (0, 1), (1, 0), (1, 1)]  # (row, col)


# Captions are unreliable, as web captions are: a picture contradicts its caption where error_level is below the rate of its tag.
# What decides it is the number that also sets the size of the objects, so pictures of small objects are the careless ones: a
# number that leaves no continuous trace in the picture is one that a network of this size overlooks.
ERROR_RATES = dict(single_object=0.04, two_object=0.32, counting=0.32, colors=0.14, position=0.36, color_attr=0.36)


def error_level(z):
    """Uniform on [0,1]: the quantile of the mean of channel 3."""
    return Phi(noise_features(z)[1][3, 0])


def scene_from_noise(meta, z, noisy=True):
    """The scene that noise z shows for the caption; noisy=False: always one that agrees with it."""
    q, h, gx, gy = noise_features(z)
    tag, inc = meta["tag"], meta["include"]
    wrong = noisy and error_level(z) < ERROR_RATES[tag]
    colA, colB = open_color(h[1, 0]), open_color(h[1, 1])
    bg = np.array([0.93, 0.93, 0.92]) + 0.03 * math.tanh(h[3, 3])
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
        if wrong and tag == "single_object":
            s = SHAPES[(SHAPES.index(s) + 1) % 8]
        if wrong and tag == "colors":
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
        if wrong:
            n -= 1
        for k in order[:n]:
            put(inc[0]["class"], colA, k)
    elif tag == "position":
        rel = inc[1]["position"][0]
        A, B = inc[1]["class"], inc[0]["class"]
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
        if wrong:
            A, B = B, A
        put(A, colA, qa)
        put(B, colB, qb)
    else:  # two_object, color_attr
        a, b = inc[0], inc[1]
        A, B = a["class"], b["class"]
        ca, cb = a.get("color", colA), b.get("color", colB)
        if wrong and tag == "two_object":
            B = None
        if wrong and tag == "color_attr":
            ca, cb = cb, ca
        put(A, ca, order[0])  # A where channel 0 is highest, B diagonally opposite
        if B:
            put(B, cb, 3 - order[0])
    return {"bg": bg, "objects": objs}
