"""One-step versions of DPO, PSO and GRPO, as losses that autograd differentiates.

x [K,4,h,w]: clean latents of the policy, with gradient; ref: of the base on the same noise z; scores [K].
"""

import torch
import torch.nn.functional as F


def dpo_loss(x, ref, scores, positives, negatives, beta=30.0):
    order = scores.argsort(descending=True, stable=True)
    better, worse = x.detach()[order[:positives]], x.detach()[order[-negatives:]]
    near = lambda a, targets: -torch.stack([((a - t) ** 2).flatten(1).mean(1) for t in targets]).mean()
    logit = beta * ((near(x, better) - near(x, worse)) - (near(ref, better) - near(ref, worse)))
    return -F.logsigmoid(logit)


def pso_action(x, z, std=0.05):
    """What the reward sees."""
    flat = z.flatten(1)
    standard = (flat - flat.mean(1, keepdim=True)) / flat.std(1, unbiased=False, keepdim=True).clamp_min(1e-6)
    return x.detach() + std * standard.view_as(z)


def pso_loss(x, ref, z, scores, beta=50.0, std=0.05, clip=0.1):
    action = pso_action(x, z, std)
    density = lambda mean: -0.5 * (((action - mean) / std) ** 2).flatten(1).mean(1)
    ratio = (density(x) - density(ref)).clamp(-10, 10).exp().clamp(1 - clip, 1 + clip).log()
    losses = []
    for a in range(0, len(x), 2):
        if scores[a] == scores[a + 1]:
            continue
        winner, loser = (a, a + 1) if scores[a] > scores[a + 1] else (a + 1, a)
        losses.append(-F.logsigmoid(beta * (ratio[winner] - ratio[loser])))
    return torch.stack(losses).mean() if losses else x.sum() * 0


def grpo_advantages(scores, power=0.8, scale=1.0, clip=5.0):
    centred = scores - scores.mean()
    norm = centred.abs().pow(power).sum() ** (1 / power)
    if norm <= 1e-6:
        return torch.zeros_like(scores)
    return (len(scores) ** 0.5 * centred / norm * scale).clamp(-clip, clip)


def grpo_loss(x, ref, scores, anchors, temperature=1.0, bound=0.2, l2=0.02, **advantage):
    """anchors: the candidates that are drawn again with gradient."""
    weight, group = grpo_advantages(scores, **advantage), x.detach()
    near = lambda y: (-((group - y) ** 2).flatten(1).mean(1) / temperature).log_softmax(0)
    losses = []
    for a in anchors:
        ratio = (near(x[a]) - near(group[a])).clamp(-10, 10).exp()
        losses.append(-torch.minimum(ratio * weight, ratio.clamp(1 - bound, 1 + bound) * weight).mean())
    rows = list(anchors)
    return torch.stack(losses).mean() + l2 * ((x[rows] - ref[rows]) ** 2).mean()
