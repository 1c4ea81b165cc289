"""The drift of one set of feature vectors, with its closed-form gradient."""

import math

import torch
import torch.nn.functional as F


def drift_gradient(x, pos, neg, w_pos, w_neg, radii, mask=False, kernel="laplacian"):
    """x [N,D] samples, pos [p,D] attract, neg [m,D] repel -> (loss, d loss / d x [N,D]).

    mask: the negatives are the samples themselves, and a sample does not repel itself.
    """
    n, width = x.shape
    m, p = len(neg), len(pos)
    targets = torch.cat([x, neg, pos])
    weight = torch.cat([x.new_ones(n), x.new_full((m,), w_neg), x.new_full((p,), w_pos)])
    # by differences: expanding the square leaves coincident points anything up to 1e-3 apart in single precision
    distance = torch.cdist(x, targets, compute_mode="donot_use_mm_for_euclid_dist").clamp_min(1e-4)
    scale = ((distance * weight).mean() / weight.mean().clamp_min(1e-8)).clamp_min(1e-3)
    unit = (scale / math.sqrt(width)).clamp_min(1e-3)
    middle = x.mean(0)
    own = x.new_zeros(n, n + m + p)
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
            logit = F.normalize(x, dim=1) @ F.normalize(targets, dim=1).T / radius
        logit = logit - 100 / radius * own
        affinity = (logit.softmax(1) * logit.softmax(0)).clamp_min(1e-6).sqrt() * weight
        push, pull = affinity[:, : n + m], affinity[:, n + m :]
        coefficient = torch.cat([-push * pull.sum(1, keepdim=True), pull * push.sum(1, keepdim=True)], 1)
        move = (coefficient @ (targets - middle) - coefficient.sum(1, keepdim=True) * (x - middle)) / unit
        force += move / (move * move).mean().clamp_min(1e-8).sqrt()
    return (force**2).mean(), -2 * force / (n * width * unit)
