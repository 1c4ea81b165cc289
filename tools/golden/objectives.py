"""Golden files of everything beside the plain drift: tests/golden/objectives/objectives.safetensors.

Computed in float64 by autograd from tools/reference/soft.py and methods.py; inputs are exact in float32.

  soft.<case>.x, ref [K,tokens,D], y [K], loss, grad; options [alpha, clip, fraction, force_scale, w_pos, w_neg]
  keep.<case>.x, ref [K,tokens,D], y, loss, grad; options [margin] or [alpha, clip, least]
  method.<case>.x, ref, z [K,C,h,w], scores [K], loss, grad, action; options as listed in METHODS
"""

import os
import sys

import torch
from safetensors.torch import save_file

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools", "reference"))
import methods
import soft

OUT = os.path.join(ROOT, "tests", "golden", "objectives")
RADII = (0.05, 0.3, 1.0)
KINDS = ("awr", "awr-contrast", "awr-topk", "awr-hard", "awr-advsign")
draw = torch.Generator().manual_seed(5)


def random(*shape):
    return torch.randn(*shape, generator=draw, dtype=torch.float64).float().double()


def inputs(k, tokens, width):
    x = random(k, tokens, width)
    return x, (x + 0.3 * random(k, tokens, width)).float().double(), random(k)


def record(out, name, loss_of, x, **others):
    leaf = x.clone().requires_grad_(True)
    loss = loss_of(leaf)
    loss.backward()
    gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(x)
    tensors = {"x": x, "loss": loss.detach().reshape(1), "grad": gradient, **others}
    out.update({f"{name}.{k}": torch.as_tensor(v).float().contiguous() for k, v in tensors.items()})


def soft_cases(out):
    cases = [(kind, kernel, 1, {}) for kind in KINDS for kernel in ("laplacian", "rbf", "cosine")]
    cases += [(kind, "laplacian", 3, dict(alpha=0.5, clip=1.5, fraction=0.3)) for kind in KINDS]
    cases += [("awr-topk", "laplacian", 1, dict(force_scale=1.7, clip=0.0)), ("awr-hard", "laplacian", 1, dict(w_pos=20.0, w_neg=5.0))]
    cases += [("awr-advsign", "laplacian", 1, dict(alpha=0.1, clip=2.0, w_pos=7.0))]
    for i, (kind, kernel, tokens, given) in enumerate(cases):
        x, ref, y = inputs(7, tokens, 5)
        o = {**dict(alpha=1.0, clip=20.0, fraction=0.5, force_scale=1.0, w_pos=3000.0, w_neg=3000.0), **given}
        rows = lambda v: v.reshape(-1, v.shape[-1])
        loss_of = lambda v: soft.soft_loss(rows(v), rows(ref), y.repeat_interleave(tokens), kind, RADII, kernel=kernel, **o)
        if tokens > 1 and kind in ("awr-topk", "awr-hard", "awr-advsign"):
            loss_of = lambda v: by_candidate(rows(v), rows(ref), y, tokens, kind, kernel, o)
        code = [KINDS.index(kind) + 1, ("laplacian", "rbf", "cosine").index(kernel)]
        values = [o[k] for k in ("alpha", "clip", "fraction", "force_scale", "w_pos", "w_neg")]
        record(out, f"soft.{i}", loss_of, x, ref=ref, y=y, options=code + values)


def by_candidate(x, ref, y, tokens, kind, kernel, o):
    """Selection and weights are of candidates; their tokens share them."""
    import math

    k = len(y)
    order = y.argsort(descending=True, stable=True)
    t = max(1, min(k, math.ceil(k * o["fraction"])))
    spread = lambda v: v.repeat_interleave(tokens)
    rows = lambda picked: (picked[:, None] * tokens + torch.arange(tokens)).flatten()
    data = x.detach()
    if kind == "awr-topk":
        return topk_rows(x, ref, y, rows(order[:t]), rows(order[k - t :]), spread, kernel, o)
    if kind == "awr-hard":
        p = soft.relative(y[order[:t]], o["alpha"], o["clip"]).softmax(0)
        q = soft.relative(-y[order[k - t :]], o["alpha"], o["clip"]).softmax(0)
        targets = data[rows(order[:t])], data[rows(order[k - t :])]
        return soft.field_loss(x, *targets, spread(o["w_pos"] * t * p), spread(o["w_neg"] * t * q), RADII, kernel)
    a = y - y.mean()
    bound = lambda v: v.clamp(-o["clip"], o["clip"])
    p = bound(a / o["alpha"]).masked_fill(a <= 0, -math.inf).softmax(0)
    q = bound(-a / o["alpha"]).masked_fill(a >= 0, -math.inf).softmax(0)
    w_pos, w_neg = o["w_pos"] * (a > 0).sum() * p, o["w_neg"] * (a < 0).sum() * q
    return soft.field_loss(x, data, data, spread(w_pos), spread(w_neg), RADII, kernel)


def topk_rows(x, ref, y, top, bottom, spread, kernel, o):
    data = x.detach()
    scale = soft.distances(data, torch.cat([data, ref])).mean().clamp_min(1e-3)
    unit = soft.unit_of(scale, x.shape[1])
    each = spread(y)
    total = torch.zeros_like(data)
    for radius in RADII:
        k = soft.logits(data, data, scale, radius, kernel)
        good = (k[:, top] + soft.relative(each[top], o["alpha"], o["clip"])).softmax(1) @ data[top]
        bad = (k[:, bottom] + soft.relative(-each[bottom], o["alpha"], o["clip"])).softmax(1) @ data[bottom]
        near = soft.logits(data, ref, scale, radius, kernel).softmax(1) @ ref
        move = (good - data + near - bad) / unit
        total = total + o["force_scale"] * move / move.pow(2).mean().clamp_min(1e-8).sqrt()
    return soft.regression(x, unit, total)


def keep_cases(out):
    x, ref, y = inputs(5, 3, 4)
    record(out, "keep.l2", lambda v: ((v - ref) ** 2).mean(), x, ref=ref, y=y)
    close = (0.5 * x).float().double()  # less diverse than the reference: the penalty acts
    record(out, "keep.diversity", lambda v: soft.diversity_loss(v, ref, 0.8), close, ref=ref, y=y)
    record(out, "keep.diverse", lambda v: soft.diversity_loss(v, ref, 0.8), (2 * x).float().double(), ref=ref, y=y)
    record(out, "keep.anchor", lambda v: soft.anchor_loss(v, ref, y, 0.9, 1.0, 0.1), x, ref=ref, y=y)


def latents(k=6, moved=0.1):
    """x0 of a policy that has moved a little from its base, differently for each candidate."""
    ref = random(k, 4, 3, 3)
    share = torch.linspace(0.1, 1, k, dtype=torch.float64).view(-1, 1, 1, 1)
    return (ref + moved * share * random(k, 4, 3, 3)).float().double(), ref, random(k, 4, 3, 3)


def method_cases(out):
    x, ref, z = latents()
    scores = random(6)
    record(out, "method.dpo", lambda v: methods.dpo_loss(v, ref, scores, 2, 3, 4.0), x, ref=ref, z=z, scores=scores)
    tied = scores.clone()
    tied[3] = tied[2]  # one pair says nothing
    for name, std, clip in (("pso", 0.2, 0.1), ("pso-open", 0.3, 0.8)):
        action = methods.pso_action(x, z, std)
        loss_of = lambda v: methods.pso_loss(v, ref, z, tied, 5.0, std, clip)
        record(out, f"method.{name}", loss_of, x, ref=ref, z=z, scores=tied, action=action)
        moved = out[f"method.{name}.grad"].flatten(1).norm(dim=1) > 0
        print(name, "candidates with a gradient:", moved.tolist())
    x, ref, z = latents(moved=0.5)
    for name, options in (("grpo", {}), ("grpo-clipped", dict(power=2.0, scale=1.5, clip=1.0))):
        loss_of = lambda v: methods.grpo_loss(v, ref, scores, range(6), temperature=0.7, l2=0.3, **options)
        record(out, f"method.{name}", loss_of, x, ref=ref, z=z, scores=scores)


def main():
    os.makedirs(OUT, exist_ok=True)
    out = {}
    soft_cases(out)
    keep_cases(out)
    method_cases(out)
    path = os.path.join(OUT, "objectives.safetensors")
    save_file(out, path)
    os.chmod(path, 0o644)
    print(len(out), "tensors,", os.path.getsize(path) // 1000, "kB")


if __name__ == "__main__":
    main()
