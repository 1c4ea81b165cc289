"""Markdown tables and one picture from folders that `drpo compare` wrote.

    python3 tools/claims/tables.py rank FOLDER           # every variant: metric, gain over the base, the first minus it, what was tuned
    python3 tools/claims/tables.py tags FOLDER           # gains by tag and by held-out reward
    python3 tools/claims/tables.py unseen FOLDER         # gains on compositions that training prompts have (one run each, from the tuning), and on those they lack
    python3 tools/claims/tables.py plot OUT.svg TITLE=FOLDER ...
"""
import glob, itertools, json, os, random, sys

TAGS = ["single_object", "two_object", "counting", "colors", "position", "color_attr", "overall", "scene", "census", "tidy", "diversity"]
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = os.path.join(HERE, "..", "..", "assets", "prompts")


def load(folder):
    with open(os.path.join(folder, "table.json")) as f:
        return json.load(f)


def span(v, sign=True):
    f = "{:+.3f}" if sign else "{:.3f}"
    low, high = v["interval"]
    return f.format(v["value"]) + (f" [{f.format(low)}, {f.format(high)}]" if low is not None else "")


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def rank(folder):
    t = load(folder)
    m, tuning, runs = t["metrics"][t["ranked_by"]], t["tuning"], t["runs"]
    first = next(iter(t["variants"]))
    row("", f"{t['ranked_by']} (95 %)", "over the base", f"{first} minus it", "each seed", "generator calls") ; row(*["---"] * 6)
    row("base", span(m["base"], False), "", "", "", "")
    for name, v in m["variants"].items():
        own = [r for r in runs if r["variant"] == name]
        label = name + (f" (lr {tuning['variants'][name]['chosen']})" if tuning else "")
        row(label, span(v["tuned"], False), span(v["gain"]), "" if name == first else span(v["first_minus_this"]),
            ", ".join(f"{x:.3f}" for x in v["seeds"]), f"{sum(r['generator_calls'] for r in own) / len(own):.0f}")
    if tuning:
        print()
        values = [x["value"] for x in next(iter(tuning["variants"].values()))["tried"]]
        row("tuning, " + t["ranked_by"] + " on training prompts", *["lr " + v for v in values]) ; row(*["---"] * (len(values) + 1))
        for name, v in tuning["variants"].items():
            row(name, *[("**{:.3f}**" if x["value"] == v["chosen"] else "{:.3f}").format(x["score"]) if x["score"] is not None else "diverged" for x in v["tried"]])


def tags(folder):
    t = load(folder)
    names = list(t["variants"])
    row("", "base", *names) ; row(*["---"] * (len(names) + 2))
    for tag in [x for x in TAGS if x in t["metrics"]]:
        m = t["metrics"][tag]
        row(tag, f"{m['base']['value']:.3f}", *[span(m["variants"][n]["gain"]) for n in names])


# ---- compositions ----

COMPOSED = ("two_object", "colors", "position", "color_attr")


def compositions(meta):
    """What a prompt combines: a pair of shapes, or a colour with a shape."""
    items = meta["include"]
    pairs = {("shapes", *sorted((a["class"], b["class"]))) for a, b in itertools.combinations(items, 2)}
    return pairs or {("colour", i["color"], i["class"]) for i in items if "color" in i}


def known_compositions():
    with open(os.path.join(PROMPTS, "train.jsonl")) as f:
        return set().union(*[compositions(json.loads(line)) for line in f])


def new_prompts():
    known = known_compositions()
    with open(os.path.join(PROMPTS, "test.jsonl")) as f:
        return {m["prompt"] for m in map(json.loads, f) if compositions(m) and not compositions(m) & known}


def read_run(path):
    """{side: {prompt: [rewards of its pictures]}} of the tags that combine things; 'correct' is one of the rewards."""
    out = {"base": {}, "tuned": {}}
    with open(os.path.join(path, "scores.jsonl")) as f:
        for line in f:
            r = json.loads(line)
            if r["tag"] in COMPOSED:
                side = out["base" if r["model"] == "base" else "tuned"]
                side.setdefault(r["prompt"], []).append({"correct": float(r["correct"]), **r["rewards"]})
    return out


def gains(paths, prompts, metric, draws=2000):
    """The base, and the mean gain over prompts and seeds with the interval of resampled prompts and seeds."""
    runs = [read_run(p) for p in sorted(paths)]
    prompts = sorted(p for p in runs[0]["base"] if prompts is None or p in prompts)
    mean = lambda rows: sum(r[metric] for r in rows) / len(rows)
    table = [[mean(run["tuned"][p]) - mean(run["base"][p]) for p in prompts] for run in runs]
    rng, found = random.Random(1), []
    for _ in range(draws):
        picked, chosen = [rng.randrange(len(prompts)) for _ in prompts], [rng.randrange(len(runs)) for _ in runs]
        found.append(sum(table[s][p] for s in chosen for p in picked) / len(picked) / len(chosen))
    found.sort()
    value = {"value": sum(map(sum, table)) / len(prompts) / len(runs), "interval": [found[int(0.025 * draws)], found[int(0.975 * draws)]]}
    return len(prompts), sum(mean(runs[0]["base"][p]) for p in prompts) / len(prompts), value


def unseen(folder):
    tuned = load(folder)["tuning"]["variants"]
    row("compositions", "metric", "prompts", "base", *tuned) ; row(*["---"] * (len(tuned) + 4))
    tries = {n: [f"{folder}/tune/{n}-lr-{v['chosen']}/eval"] for n, v in tuned.items()}
    tests = {n: glob.glob(os.path.join(folder, n + "-[0-9]*", "eval")) for n in tuned}
    for title, paths, prompts in (("of training prompts", tries, None), ("in no training prompt", tests, new_prompts())):
        for metric in ("correct", "scene", "census"):
            each = [gains(paths[n], prompts, metric) for n in tuned]
            row(title, metric, each[0][0], f"{each[0][1]:.3f}", *[span(g) for _, _, g in each])


# ---- the picture ----

STYLE = ("text{font:12px sans-serif;fill:#333}.t{font-weight:bold;font-size:13px}.g{stroke:#ddd}.b{stroke:#999;stroke-dasharray:4 3}"
         ".i{stroke:#2563a8;stroke-width:2.5}.p{fill:#2563a8}.s{fill:#e08030}")


def panel(title, t, top, width, left, low, high):
    m, out = t["metrics"][t["ranked_by"]], []
    at = lambda v: left + (v - low) / (high - low) * (width - left - 20)
    rows, height = list(m["variants"].items()), 24 * len(m["variants"]) + 52
    out.append(f'<text class="t" x="10" y="{top + 16}">{title}</text>')
    tick = low
    while tick <= high + 1e-9:
        out.append(f'<line class="g" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{top + 24}" y2="{top + height - 20}"/><text x="{at(tick):.1f}" y="{top + height - 6}" text-anchor="middle">{tick:.2f}</text>')
        tick += 0.05
    base = m["base"]["value"]
    out.append(f'<line class="b" x1="{at(base):.1f}" x2="{at(base):.1f}" y1="{top + 24}" y2="{top + height - 20}"/>')
    for k, (name, v) in enumerate(rows):
        y = top + 38 + 24 * k
        a, b = v["tuned"]["interval"]
        out.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{name}</text><line class="i" x1="{at(a):.1f}" x2="{at(b):.1f}" y1="{y}" y2="{y}"/><circle class="p" cx="{at(v["tuned"]["value"]):.1f}" cy="{y}" r="4.5"/>')
        out += [f'<circle class="s" cx="{at(x):.1f}" cy="{y + 7}" r="2.2"/>' for x in v["seeds"]]
    return "\n".join(out), height


def plot(path, panels):
    tables = [(p.split("=", 1)[0], load(p.split("=", 1)[1])) for p in panels]
    values = [x for _, t in tables for v in t["metrics"][t["ranked_by"]]["variants"].values() for x in (*v["tuned"]["interval"], *v["seeds"])]
    low, high = int(min(values) * 20) / 20, -int(-max(values) * 20 // 1) / 20
    high = min(1.0, max(high, max(values)) // 0.05 * 0.05 + 0.05)
    width, left, top, parts = 720, 150, 8, []
    for title, t in tables:
        text, height = panel(title, t, top, width, left, low, high)
        parts.append(text)
        top += height + 10
    note = "blue: mean and 95 % interval over held-out prompts and training seeds; orange: single seeds; dashed: the base"
    parts.append(f'<text x="10" y="{top + 12}">{note}</text>')
    with open(path, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + 24}" width="{width}"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "plot":
        plot(rest[0], rest[1:])
    else:
        {"rank": rank, "tags": tags, "unseen": unseen}[verb](rest[0])
