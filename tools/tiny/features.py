"""Latent feature network: GroupNorm residual net on 4-channel latents, trained by masked reconstruction; pooled features.

conv1 3x3 (no bias) GN ReLU; stage i: blocks of [conv3x3 GN ReLU conv3x3 GN (+ 1x1 conv GN shortcut when the shape
changes)] ReLU, stride 2 at the first block of stages 2..; a GN after every stage gives the map "layer<i>".
Feature keys of a map: layer<i>_mean, layer<i>_std (whole map), layer<i>_mean_<p>, layer<i>_std_<p> (p x p patches).
"""

import json
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


def groups(c):
    return next(g for g in (32, 16, 8, 4, 2, 1) if c % g == 0 and c // g >= 4)


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.gn1 = nn.GroupNorm(groups(o), o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.gn2 = nn.GroupNorm(groups(o), o)
        if i != o or stride != 1:
            self.proj_conv = nn.Conv2d(i, o, 1, stride, bias=False)
            self.proj_gn = nn.GroupNorm(groups(o), o)

    def forward(self, x):
        y = self.gn2(self.conv2(F.relu(self.gn1(self.conv1(x)))))
        if hasattr(self, "proj_conv"):
            x = self.proj_gn(self.proj_conv(x))
        return F.relu(x + y)


class Encoder(nn.Module):
    pass


class LatentResNet(nn.Module):
    def __init__(self, width=(32, 64, 96, 128), blocks=(1, 1, 1, 1), in_channels=4):
        super().__init__()
        self.width, self.blocks, self.in_channels = tuple(width), tuple(blocks), in_channels
        e = self.encoder = Encoder()
        e.conv1 = nn.Conv2d(in_channels, width[0], 3, 1, 1, bias=False)
        e.gn1 = nn.GroupNorm(groups(width[0]), width[0])
        c = width[0]
        for s, (w, n) in enumerate(zip(width, blocks)):
            st = Encoder()
            for b in range(n):
                st.add_module(f"layers_{b}", Block(c, w, 2 if s > 0 and b == 0 else 1))
                c = w
            e.add_module(f"stages_{s}", st)
            e.add_module(f"layer{s + 1}_norm", nn.GroupNorm(groups(w), w))

    def maps(self, x):
        e, out = self.encoder, {}
        x = F.relu(e.gn1(e.conv1(x)))
        out["conv1"] = x
        for s, n in enumerate(self.blocks):
            st = getattr(e, f"stages_{s}")
            for b in range(n):
                x = getattr(st, f"layers_{b}")(x)
            x = getattr(e, f"layer{s + 1}_norm")(x)
            out[f"layer{s + 1}"] = x
        return out

    def features(self, x, keys):
        m = self.maps(x) if any(not k.startswith("latent") for k in keys) else {}
        m["latent"] = x
        return {k: pooled(m, k) for k in keys}

    def save(self, d):
        os.makedirs(d, exist_ok=True)
        save_file({k: v.detach().clone().contiguous() for k, v in self.state_dict().items()}, d + "/model.safetensors")
        json.dump(
            {
                "in_channels": self.in_channels,
                "layers": self.blocks,
                "width": self.width,
                "sample_size": 16,
                "norm_eps": 1e-5,
                "std_eps": 1e-6,
                "std_floor": True,
                "groups": {str(w): groups(w) for w in self.width},
            },
            open(d + "/config.json", "w"),
            indent=1,
        )

    @staticmethod
    def load(d):
        c = json.load(open(d + "/config.json"))
        n = LatentResNet(c["width"], c["layers"], c["in_channels"])
        n.load_state_dict(load_file(d + "/model.safetensors"))
        return n.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def pooled(maps, key):
    """-> [B, tokens, D]"""
    parts = key.split("_")
    v = maps[parts[0]]
    if len(parts) == 1:
        return v.flatten(2).transpose(1, 2)
    p = int(parts[2]) if len(parts) > 2 else v.shape[-1]
    if parts[1] == "patch":
        return F.pixel_unshuffle(v, p).flatten(2).transpose(1, 2)
    m = F.avg_pool2d(v, p)
    if parts[1] == "std":
        m = (F.avg_pool2d(v * v, p) - m * m).clamp_min(1e-6).sqrt()
    return m.flatten(2).transpose(1, 2)


class MAEDecoder(nn.Module):
    """Throw-away decoder for the masked reconstruction."""

    def __init__(self, c):
        super().__init__()
        L = []
        for o in (96, 64, 48):
            L += [nn.Conv2d(c, o * 4, 3, 1, 1), nn.PixelShuffle(2), nn.GroupNorm(8, o), nn.ReLU()]
            c = o
        self.net = nn.Sequential(*L, nn.Conv2d(c, 4, 3, 1, 1))

    def forward(self, x):
        return self.net(x)
