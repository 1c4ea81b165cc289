"""Golden cases of the drift: loss, force and gradient in float64, distances by direct differences.

Each file tests/golden/drift/<theme>.safetensors holds case<i>.x, .pos, .neg, .force, .grad (float32) and .loss [1]; the metadata entry
case<i> is JSON: kernel, radii, w_pos, w_neg, mask (negatives are the samples themselves: mask their diagonal too) and a note.
"""

import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from common import GOLDEN

RADII = (0.02, 0.05, 0.2)


def f32(value):
    return float(torch.tensor(value, dtype=torch.float32))


def distances(x, targets):
    """[N,T] Euclidean distances, never below 1e-4."""
    rows = [(row - targets).pow(2).sum(1) for row in x]
    return torch.stack(rows).clamp_min(1e-8).sqrt()


def drift(x, pos, neg, kernel, radii, w_pos, w_neg, mask):
    """x [N,D], pos [p,D], neg [m,D] in float64 -> (loss, force [N,D], gradient [N,D])."""
    n, width = x.shape
    m, p = len(neg), len(pos)
    targets = torch.cat([x, neg, pos])
    weight = torch.cat([torch.ones(n), torch.full((m,), w_neg), torch.full((p,), w_pos)]).double()
    distance = distances(x, targets)
    scale = ((distance * weight).mean() / weight.mean().clamp_min(1e-8)).clamp_min(1e-3)
    unit = (scale / math.sqrt(width)).clamp_min(1e-3)
    own = torch.zeros(n, n + m + p, dtype=torch.float64)
    own[:, :n].fill_diagonal_(1)
    if mask:
        own[:, n : 2 * n].fill_diagonal_(1)
    force = torch.zeros_like(x)
    for radius in radii:
        if kernel == "laplacian":
            logit = -distance / scale / radius
        elif kernel == "rbf":
            logit = -0.5 * (distance / scale / radius) ** 2
        else:
            logit = F.normalize(x, dim=1, eps=1e-8) @ F.normalize(targets, dim=1, eps=1e-8).T / radius
        logit = logit - own * 100 / radius
        affinity = (logit.softmax(1) * logit.softmax(0)).clamp_min(1e-6).sqrt() * weight
        push, pull = affinity[:, : n + m], affinity[:, n + m :]
        coefficient = torch.cat([-push * pull.sum(1, keepdim=True), pull * push.sum(1, keepdim=True)], 1)
        # by differences, so that coincident points move exactly nowhere
        move = torch.stack([c @ (targets - row) for c, row in zip(coefficient, x)]) / unit
        force += move / move.pow(2).mean().clamp_min(1e-8).sqrt()
    moved = x.clone().requires_grad_(True)
    loss = (moved / unit - (x / unit + force)).pow(2).mean()
    loss.backward()
    assert torch.allclose(moved.grad, -2 * force / (n * width * unit), rtol=1e-9, atol=1e-300)
    return loss.detach(), force, moved.grad


def write(theme, cases):
    tensors, meta = {}, {}
    for i, (note, x, pos, neg, options) in enumerate(cases):
        o = {"kernel": "laplacian", "radii": RADII, "w_pos": 3000.0, "w_neg": 3000.0, "mask": False, **options}
        o["radii"] = [f32(r) for r in o["radii"]]
        loss, force, grad = drift(x.double(), pos.double(), neg.double(), **o)
        for name, value in (("x", x), ("pos", pos), ("neg", neg), ("force", force), ("grad", grad), ("loss", loss.reshape(1))):
            assert torch.isfinite(value).all(), note
            tensors[f"case{i}.{name}"] = value.float().clone().contiguous()
        meta[f"case{i}"] = json.dumps({**o, "note": note})
        print(f"{theme} {i}: {note}: N {len(x)} p {len(pos)} m {len(neg)} D {x.shape[1]} loss {float(loss):.6f}")
    os.makedirs(GOLDEN + "/drift", exist_ok=True)
    save_file(tensors, f"{GOLDEN}/drift/{theme}.safetensors", metadata=meta)


def normal(seed, n, width, scale=1.0, offset=0.0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) * scale + offset


def ranked(x, pos, neg):
    """Preference mode: anchors are rows of the samples."""
    return x, x[:pos].clone(), x[len(x) - neg :].clone()


def kernels():
    for k, kernel in enumerate(("laplacian", "rbf", "cosine")):
        x = normal(10 + k, 8, 24)
        yield "other anchors", x, normal(20 + k, 3, 24, 1.5), normal(30 + k, 4, 24), {"kernel": kernel}
        yield "anchors among the samples", *ranked(x, 2, 2), {"kernel": kernel}
        reference = x + normal(40 + k, 8, 24, 0.3)
        yield "reference term", x, reference, x.clone(), {"kernel": kernel, "mask": True}
        yield "reference equal to the samples", x, x.clone(), x.clone(), {"kernel": kernel, "mask": True}
        yield "one radius, unequal weights", *ranked(normal(50 + k, 6, 5), 3, 1), {
            "kernel": kernel,
            "radii": (0.1,),
            "w_pos": 2.0,
            "w_neg": 1.0,
        }


def sizes():
    yield "one sample", normal(60, 1, 16), normal(61, 1, 16), normal(62, 1, 16), {}
    yield "one sample, one number", normal(63, 1, 1), normal(64, 2, 1), normal(65, 3, 1), {"kernel": "rbf"}
    yield "one dimension", normal(66, 40, 1), normal(67, 9, 1), normal(68, 5, 1), {}
    yield "many rows", normal(69, 700, 4), normal(70, 120, 4), normal(71, 90, 4), {}
    yield "4096 rows", normal(72, 4096, 2), normal(73, 64, 2), normal(74, 32, 2), {}
    yield "masked, many rows", *(lambda x: (x, x + normal(75, 300, 6, 0.1), x.clone()))(normal(76, 300, 6)), {"mask": True}
    yield "wide", *ranked(normal(77, 6, 2048, 0.4), 2, 2), {}
    yield "wide, cosine", *ranked(normal(78, 4, 2048, 0.4), 1, 1), {"kernel": "cosine"}
    yield "widest", *ranked(normal(79, 2, 20480), 1, 1), {}


def degenerate():
    for kernel in ("laplacian", "rbf", "cosine"):
        same = normal(80, 1, 12).repeat(5, 1)
        yield "all points identical", same, same[:2].clone(), same[:2].clone(), {"kernel": kernel}
        twins = normal(81, 4, 12).repeat_interleave(2, 0)
        yield "every sample twice", *ranked(twins, 2, 2), {"kernel": kernel}
    zeros = torch.cat([torch.zeros(2, 7), normal(82, 3, 7)])
    yield "zero vectors", zeros, zeros[:1].clone(), normal(83, 2, 7), {"kernel": "cosine"}
    yield "tiny values", *ranked(normal(84, 6, 9, 1e-5), 2, 2), {}
    yield "large values", *ranked(normal(85, 6, 9, 1e4), 2, 2), {}
    yield "far from the origin", *ranked(normal(86, 8, 9, 1.0, 100.0), 2, 2), {}
    near = normal(87, 1, 16) + normal(88, 8, 16, 1e-2)
    yield "near-duplicates beside far anchors", near, normal(89, 2, 16), near[:2].clone(), {}
    yield "a dipole", torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.tensor([[-1.0]]), {}


if __name__ == "__main__":
    for cases in (kernels, sizes, degenerate):
        write(cases.__name__, cases())
