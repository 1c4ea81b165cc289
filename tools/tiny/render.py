"""Draws a scene: coverage of each shape at four times the size, averaged, composited over the background."""

import math

import numpy as np
from PIL import Image, ImageDraw

from tiny.captions import COLORS, PALETTE, SIZE


def _polys():
    P = {}
    P["square"] = [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    P["triangle"] = [(0, -1.0), (1.0, 0.82), (-1.0, 0.82)]
    P["star"] = [
        (
            (1.12 if k % 2 == 0 else 0.47) * math.sin(math.pi * k / 5),
            -(1.12 if k % 2 == 0 else 0.47) * math.cos(math.pi * k / 5) + 0.06,
        )
        for k in range(10)
    ]
    w = 0.34
    P["cross"] = [(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]
    P["heart"] = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        P["heart"].append((x / 16.5, -(y + 2.3) / 16))
    return P


POLYS = _polys()
SS = 4


def shape_alpha(shape, x, y, r):
    """64x64 coverage in [0,1]; drawn at 4x on a window round the object and box-averaged."""
    e = 1.25 * r + 2
    x0, y0 = max(int(x - e), 0), max(int(y - e), 0)
    x1, y1 = min(int(x + e) + 1, SIZE), min(int(y + e) + 1, SIZE)
    im = Image.new("L", ((x1 - x0) * SS, (y1 - y0) * SS), 0)
    d = ImageDraw.Draw(im)
    X, Y, R = (x - x0) * SS, (y - y0) * SS, r * SS

    def ell(cx, cy, rr, v):
        d.ellipse([cx - rr, cy - rr, cx + rr, cy + rr], fill=v)

    if shape == "circle":
        ell(X, Y, R * 0.97, 255)
    elif shape == "ring":
        ell(X, Y, R, 255)
        ell(X, Y, R * 0.54, 0)
    elif shape == "moon":
        ell(X - R * 0.12, Y, R, 255)
        ell(X + R * 0.38, Y - R * 0.12, R * 0.80, 0)
    else:
        d.polygon([(X + R * px, Y + R * py) for px, py in POLYS[shape]], fill=255)
    out = np.zeros((SIZE, SIZE), np.float32)
    out[y0:y1, x0:x1] = np.asarray(im.reduce(SS), np.float32) / 255.0
    return out


def named_color(color):
    return PALETTE[COLORS.index(color)] if isinstance(color, str) else color


def render(scene):
    """scene = {"bg": rgb, "objects": [{"shape","color","x","y","r","shade"}]} -> float32 [64,64,3] in [0,1]"""
    img = np.empty((SIZE, SIZE, 3), np.float32)
    img[:] = np.asarray(scene["bg"], np.float32)
    for o in scene["objects"]:
        a = shape_alpha(o["shape"], o["x"], o["y"], o["r"])[..., None]
        col = np.clip(named_color(o["color"]) * (1 + o["shade"]) + max(o["shade"], 0) * 0.10, 0, 1)
        img = img * (1 - a) + col * a
    return np.clip(img, 0, 1)
