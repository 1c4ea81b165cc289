"""Soft variants of the drift and the terms beside it, as losses that autograd differentiates.

x, ref [N,D]: one row for every candidate (or every token, with its candidate's score); y [N]: scores.
"""

import math

import torch
import torch.nn.functional as F


def distances(a, b):
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").clamp_min(1e-4)


def logits(x, targets, scale, radius, kernel):
    if kernel == "cosine":
        return F.normalize(x, dim=1) @ F.normalize(targets, dim=1).T / radius
    d = distances(x, targets) / scale / radius
    return -d if kernel == "laplacian" else -0.5 * d**2


def regression(x, unit, force):
    """Mean squared distance to the goal x + force, in units of `unit`; only x itself is differentiated."""
    goal = x.detach() / unit + force
    return ((x / unit - goal) ** 2).mean()


def unit_of(scale, width):
    return (scale / math.sqrt(width)).clamp_min(1e-3)


def relative(y, alpha, clip):
    """y / alpha with its maximum at zero, clipped."""
    z = y / alpha
    z = z - z.max()
    return z.clamp(-clip, clip) if clip > 0 else z


def means_loss(x, ref, y, kind, radii, kernel="laplacian", alpha=1.0, clip=20.0, fraction=0.5, force_scale=1.0):
    """kind: awr, awr-contrast or awr-topk."""
    data, n = x.detach(), len(x)
    scale = distances(data, torch.cat([data, ref])).mean().clamp_min(1e-3)
    unit = unit_of(scale, x.shape[1])
    order = y.argsort(descending=True, stable=True)
    t = max(1, min(n, math.ceil(n * fraction))) if kind == "awr-topk" else n
    top, bottom = order[:t], order[n - t :]
    total = torch.zeros_like(data)
    for radius in radii:
        k = logits(data, data, scale, radius, kernel)
        mean = lambda rows, weight: (k[:, rows] + weight).softmax(1) @ data[rows]
        good = mean(top, relative(y[top], alpha, clip))
        bad = mean(bottom, relative(-y[bottom], alpha, clip)) if kind != "awr" else k.softmax(1) @ data
        near = logits(data, ref, scale, radius, kernel).softmax(1) @ ref
        move = (good - data + near - bad) / unit
        force = move / move.pow(2).mean().clamp_min(1e-8).sqrt()
        total = total + (force_scale if kind == "awr-topk" else 1.0) * force
    return regression(x, unit, total)


def field_loss(x, pos, neg, w_pos, w_neg, radii, kernel="laplacian"):
    """The drift with a weight for every target; the samples repel each other with weight 1."""
    data, n = x.detach(), len(x)
    targets, weight = torch.cat([data, neg, pos]), torch.cat([torch.ones(n, dtype=x.dtype), w_neg, w_pos])
    distance = distances(data, targets)
    scale = ((distance * weight).mean() / weight.mean().clamp_min(1e-8)).clamp_min(1e-3)
    unit = unit_of(scale, x.shape[1])
    total = torch.zeros_like(data)
    for radius in radii:
        logit = logits(data, targets, scale, radius, kernel)
        logit[:, :n] -= 100 / radius * torch.eye(n, dtype=x.dtype)
        affinity = (logit.softmax(1) * logit.softmax(0)).clamp_min(1e-6).sqrt() * weight
        push, pull = affinity[:, : n + len(neg)], affinity[:, n + len(neg) :]
        coefficient = torch.cat([-push * pull.sum(1, keepdim=True), pull * push.sum(1, keepdim=True)], 1)
        move = (coefficient @ targets - coefficient.sum(1, keepdim=True) * data) / unit
        total = total + move / move.pow(2).mean().clamp_min(1e-8).sqrt()
    return regression(x, unit, total)


def weighted_loss(x, y, kind, radii, kernel="laplacian", alpha=1.0, clip=20.0, fraction=0.5, w_pos=3000.0, w_neg=3000.0):
    """kind: awr-hard or awr-advsign."""
    data, n = x.detach(), len(x)
    if kind == "awr-hard":
        order = y.argsort(descending=True, stable=True)
        t = max(1, min(n, math.ceil(n * fraction)))
        top, bottom = order[:t], order[n - t :]
        p, q = relative(y[top], alpha, clip).softmax(0), relative(-y[bottom], alpha, clip).softmax(0)
        return field_loss(x, data[top], data[bottom], w_pos * t * p, w_neg * t * q, radii, kernel)
    advantage = y - y.mean()
    up, down = advantage > 0, advantage < 0
    if not up.any():
        up[y.argmax()] = True
    if not down.any():
        down[y.argmin()] = True
    bound = lambda v: v.clamp(-clip, clip) if clip > 0 else v
    p = bound(advantage / alpha).masked_fill(~up, -math.inf).softmax(0)
    q = bound(-advantage / alpha).masked_fill(~down, -math.inf).softmax(0)
    return field_loss(x, data, data, w_pos * up.sum() * p, w_neg * down.sum() * q, radii, kernel)


def soft_loss(x, ref, y, kind, radii, **options):
    if kind in ("awr-hard", "awr-advsign"):
        options.pop("force_scale", None)
        return weighted_loss(x, y, kind, radii, **options)
    for name in ("w_pos", "w_neg"):
        options.pop(name, None)
    return means_loss(x, ref, y, kind, radii, **options)


# ---- beside the drift ----


def diversity_loss(x, ref, margin=0.8):
    """x, ref [K,...]: candidates."""
    n = len(x)
    off = ~torch.eye(n, dtype=torch.bool)
    spread = lambda v: (v.flatten(1)[:, None] - v.flatten(1)[None]).pow(2).sum(2).clamp_min(1e-8).sqrt()[off].mean()
    target = (margin * spread(ref)).clamp_min(1e-8)
    return F.relu((target - spread(x)) / target) ** 2


def anchor_loss(x, ref, y, alpha=1.0, clip=2.0, least=0.0):
    advantage = (y - y.mean()) / (y.var(unbiased=False) + 1e-6).sqrt()
    q = advantage.clamp(-clip, clip).clamp_min(0) / clip
    weight = (least + (1 - least) * q).view(-1, *[1] * (x.ndim - 1))
    return ((x - (ref + alpha * weight * (x.detach() - ref))) ** 2).mean()
