"""Decides whether a picture shows what its metadata asks for; the C reward `scene` follows the same rules."""

import json
import math
import os

import numpy as np

from tiny.captions import COLORS, PALETTE, REL_DIR, SHAPES, SIZE
from tiny.render import shape_alpha

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "assets", "scene_templates.json")

FG, MIN_AREA, GRID, SHAPE_MIN, COLOR_MAX = 0.20, 24, 16, 0.92, 0.36
_T = None


def components(mask):
    """4-connected components of a 64x64 bool mask by runs + union-find; list of (ys, xs)."""
    runs, parent, prev, out = [], [], [], {}

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for y in range(mask.shape[0]):
        m = np.flatnonzero(np.diff(np.concatenate(([0], mask[y].view(np.int8), [0]))))
        cur = []
        for a, b in zip(m[0::2].tolist(), m[1::2].tolist()):  # [a, b)
            i = len(parent)
            parent.append(i)
            runs.append((y, a, b))
            for a2, b2, j in prev:
                if a < b2 and a2 < b:
                    parent[find(i)] = find(j)
            cur.append((a, b, i))
        prev = cur
    for i, run in enumerate(runs):
        out.setdefault(find(i), []).append(run)
    return list(out.values())


def normalised_grid(alpha):
    """Bilinear GRIDxGRID sampling of a coverage map over the square box (side 1.1 max(w,h)) round its support."""
    ys, xs = np.nonzero(alpha > 0.5)
    if len(ys) == 0:
        return None, None
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    cx, cy, s = (x0 + x1) / 2, (y0 + y1) / 2, 1.1 * max(x1 - x0, y1 - y0)
    t = (np.arange(GRID) + 0.5) / GRID - 0.5
    gx, gy = np.clip(cx + s * t - 0.5, 0, SIZE - 1.001), np.clip(cy + s * t - 0.5, 0, SIZE - 1.001)
    ix, iy = gx.astype(int), gy.astype(int)
    fx, fy = (gx - ix)[None], (gy - iy)[:, None]
    a = alpha
    g = (
        a[iy][:, ix] * (1 - fx) * (1 - fy)
        + a[iy][:, ix + 1] * fx * (1 - fy)
        + a[iy + 1][:, ix] * (1 - fx) * fy
        + a[iy + 1][:, ix + 1] * fx * fy
    )
    return g, (x0, y0, x1, y1)


def make_templates():
    T = []
    for s in SHAPES:
        acc = 0
        for r in (9.5, 10.5, 11.5, 13.0, 15.0):
            for dx in (0.0, 0.25, 0.5, 0.75):
                g, _ = normalised_grid(shape_alpha(s, 32 + dx, 32 + dx * 0.6, r))
                acc = acc + g
        T.append(acc / 20)
    return np.stack(T).astype(np.float32)


def templates():
    global _T
    if _T is None:
        with open(TEMPLATES) as f:
            T = np.array(json.load(f)["templates"], np.float32).reshape(8, GRID * GRID)
        T = T - T.mean(1, keepdims=True)
        _T = T / np.sqrt((T * T).sum(1, keepdims=True))
    return _T


def detect(img):
    """img float [64,64,3] in [0,1] -> list of components with shape correlations and colour distances."""
    img = np.asarray(img, np.float32)
    ring = np.concatenate([img[0], img[-1], img[1:-1, 0], img[1:-1, -1]])
    bg = np.median(ring, 0)
    d = np.abs(img - bg).max(-1)
    out = []
    for runs in components(d > FG):
        area = sum(b - a for _, a, b in runs)
        if area < MIN_AREA:
            continue
        m = np.zeros((SIZE, SIZE), bool)
        for y, a, b in runs:
            m[y, a:b] = True
        dm = d[m]
        strength = np.sort(dm)[int(0.7 * (len(dm) - 1))]  # 70th percentile contrast
        alpha = np.where(m, np.minimum(d / strength, 1), 0)
        g, box = normalised_grid(alpha)
        if g is None:
            continue
        g = g - g.mean()
        corr = templates() @ (g.reshape(-1) / max(np.sqrt((g * g).sum()), 1e-6)).astype(np.float32)
        core = alpha > 0.85
        col = img[core].mean(0) if core.any() else img[m].mean(0)
        cd = np.sqrt(((PALETTE - col) ** 2).sum(1))
        k, c = int(corr.argmax()), int(cd.argmin())
        out.append(
            dict(
                cls=SHAPES[k] if corr[k] >= SHAPE_MIN else None,
                color=COLORS[c] if cd[c] <= COLOR_MAX else None,
                corr=corr,
                cdist=cd,
                box=box,
                area=int(area),
                col=col,
            )
        )
    return out


def relation(A, B, thr=0.1):
    """Unit-normalised offset of A's centre from B's after a dead band of thr*(dimA+dimB) on each axis."""
    ax0, ay0, ax1, ay1 = A["box"]
    bx0, by0, bx1, by1 = B["box"]
    ox, oy = (ax0 + ax1 - bx0 - bx1) / 2, (ay0 + ay1 - by0 - by1) / 2
    n = math.hypot(ox, oy)
    if n < 1e-6:
        return 0.0, 0.0
    rx = math.copysign(max(abs(ox) - thr * (ax1 - ax0 + bx1 - bx0), 0), ox)
    ry = math.copysign(max(abs(oy) - thr * (ay1 - ay0 + by1 - by0), 0), oy)
    return rx / n, ry / n


def correct(dets, meta):
    """GenEval's decision: counts, then colours, then positions of the objects asked for, then excludes.
    Stricter than GenEval in one respect: nothing may be left over (else drawing everything everywhere would win)."""
    if len(dets) > sum(it["count"] for it in meta["include"]):
        return False
    groups = []
    for it in meta["include"]:
        found = sorted([o for o in dets if o["cls"] == it["class"]], key=lambda o: -float(o["corr"].max()))
        if len(found) < it["count"]:
            return False
        if "color" in it:
            found = [o for o in found if o["color"] == it["color"]]
            if len(found) < it["count"]:
                return False
        found = found[: it["count"]] if not meta["exclude"] else found
        if "position" in it:
            rel, ref = it["position"]
            ex, ey = REL_DIR[rel]
            for o in found:
                for t in groups[ref]:
                    dx, dy = relation(o, t)
                    if dx * ex + dy * ey <= 0.5:
                        return False
        groups.append(found)
    for it in meta["exclude"]:
        if sum(o["cls"] == it["class"] for o in dets) >= it["count"]:
            return False
    return True


def soft(dets, meta):
    """Partial credit in [0,1]: mean over the objects and relations asked for, minus .1 per surplus object."""
    used, scores, firsts = set(), [], []
    P, C = [], []
    for o in dets:
        w = np.exp((o["corr"] - o["corr"].max()) / 0.05)
        P.append(w / w.sum() * min(max((float(o["corr"].max()) - 0.6) / 0.35, 0), 1))
        w = np.exp(-(o["cdist"] - o["cdist"].min()) / 0.08)
        C.append(w / w.sum())
    for it in meta["include"]:
        k = SHAPES.index(it["class"])
        s = [
            float(P[j][k] * (0.4 + 0.6 * C[j][COLORS.index(it["color"])]) if "color" in it else P[j][k]) for j in range(len(dets))
        ]
        first = None
        for _ in range(it["count"]):
            free = [j for j in range(len(dets)) if j not in used]
            if not free:
                scores.append(0.0)
                continue
            j = max(free, key=lambda j: s[j])
            used.add(j)
            scores.append(s[j])
            if first is None:
                first = (j, s[j])
        firsts.append(first)
    for i, it in enumerate(meta["include"]):
        if "position" in it:
            rel, ref = it["position"]
            if firsts[i] is None or firsts[ref] is None:
                scores.append(0.0)
                continue
            dx, dy = relation(dets[firsts[i][0]], dets[firsts[ref][0]])
            t = dx * REL_DIR[rel][0] + dy * REL_DIR[rel][1]
            scores.append(min(max(t + 0.5, 0), 1) * min(firsts[i][1], firsts[ref][1]))
    surplus = len(dets) - len(used)
    return min(max(sum(scores) / len(scores) - 0.1 * surplus, 0), 1)


def verify(img, meta):
    """-> (correct 0/1, reward in [0,1] = half verdict, half partial credit)"""
    dets = detect(img)
    ok = correct(dets, meta)
    return int(ok), 0.5 * ok + 0.5 * soft(dets, meta)
