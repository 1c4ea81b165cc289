"""Selection from a yes-or-no reward, plainly: tickets from Philox, the lowest win. Writes tests/golden/pools/pools.json.

Also reads a run: `pools.py RUN` recomputes the selections of RUN/candidates.jsonl (made with --pools) by the same rule.
"""
import json, pathlib, random, sys

MASK, TICKET = 0xFFFFFFFF, 9


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def ticket(seed, update, slot, number):
    """The number-th 64-bit word of the key (seed, TICKET, update, slot, 0)."""
    pair = philox([TICKET, 0, 0, 0], [seed & MASK, seed >> 32])[:2]
    words = philox([number // 2, update, slot, 0], pair)
    at = 2 * (number % 2)
    return words[at] | words[at + 1] << 32


def select(scores, seed, update, slot, positives, least, negatives):
    """None: the prompt is skipped."""
    lots = sorted(range(len(scores)), key=lambda k: ticket(seed, update, slot, k))
    yes, no = [k for k in lots if scores[k] >= 0.5], [k for k in lots if scores[k] < 0.5]
    if len(yes) < (least or positives) or len(no) < negatives:
        return None
    return yes[:positives], no[:negatives]


def check_run(run):
    options = dict(line.split(": ", 1) for line in (run / "config.yaml").read_text().splitlines() if ": " in line)
    numbers = [int(options[key].strip('"')) for key in ("positives", "positives-min", "negatives")]
    lines = [json.loads(line) for line in (run / "candidates.jsonl").read_text().splitlines()]
    for line in lines:
        (scores,) = line["scores"].values()
        chosen = select(scores, *line["key"], *numbers)
        assert line.get("skipped", False) == (chosen is None), line
        assert chosen is None or [line["positives"], line["negatives"]] == list(chosen), line
    print(f"{len(lines)} selections agree")


def make_golden():
    draw, cases = random.Random(1), []
    for i in range(60):
        n, share = draw.choice([8, 16, 24, 96]), draw.choice([0.05, 0.3, 0.5, 0.9])
        scores = [draw.choice([0.5, 0.75, 1]) if draw.random() < share else draw.choice([0, 0.25, 0.499]) for _ in range(n)]
        case = {"scores": scores, "seed": draw.choice([42, 2**40 + 3]), "update": i, "slot": i % 5,
                "positives": draw.choice([1, 3, 8]), "least": 0, "negatives": draw.choice([1, 3, 8])}
        case["least"] = draw.choice([0, 0, 1, case["positives"]])
        chosen = select(**case)
        cases.append(case | ({"skip": True} if chosen is None else {"pos": chosen[0], "neg": chosen[1]}))
    folder = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/pools"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pools.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    check_run(pathlib.Path(sys.argv[1])) if len(sys.argv) > 1 else make_golden()
