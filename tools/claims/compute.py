"""Table of claim (e) from the runs of compute.sh, and what larger rewards would cost.

    python3 tools/claims/compute.py FOLDER [NAME=SECONDS ...]

For each reward: seconds of one update by phase, medians. DRaFT here scores its pictures once more for the record; that pass is left out of its total,
as is the plain decode (its gradient pass decodes for itself). NAME=SECONDS: a reward whose scoring pass takes so long for a picture, but which has no
gradient here; its DRaFT row is extrapolated: gradient pass = scoring pass x the ratio of the two in the largest reward that was measured.
"""
import json, os, statistics, sys

PHASES = ("text", "generate", "reference", "decode", "reward", "features", "backward", "optimizer")


def phases(path):
    with open(os.path.join(path, "metrics.jsonl")) as f:
        rows = [json.loads(line)["time"]["phases"] for line in f][1:]
    return {p: statistics.median(r[p] for r in rows) for p in PHASES}


def candidates(path):
    with open(os.path.join(path, "metrics.jsonl")) as f:
        return json.loads(f.readline())["candidates"]


def main(folder, extra):
    names = sorted((d[: -len("-drpo")] for d in os.listdir(folder) if d.endswith("-drpo")), key=lambda n: phases(f"{folder}/{n}-drpo")["reward"])
    print("| reward | scoring, s a picture | DrPO update, s | of it reward | DRaFT update, s | of it decoder and reward with gradient | DRaFT / DrPO | |\n|---|---|---|---|---|---|---|---|")
    for n in names:
        a, b, k = phases(f"{folder}/{n}-drpo"), phases(f"{folder}/{n}-draft"), candidates(f"{folder}/{n}-drpo")
        ours = sum(a.values()) - a["text"]
        slope = b["reward"] - a["reward"]  # decode, reward and both back again
        theirs = b["generate"] + slope + b["backward"] + b["optimizer"]
        print(f"| {n} | {a['reward'] / k:.3f} | {ours:.2f} | {a['reward']:.2f} | {theirs:.2f} | {slope:.2f} | {theirs / ours:.2f} | measured |")
    rest, fixed, factor = ours - a["reward"], theirs - slope, (slope - 2 * a["decode"]) / a["reward"]
    for text in extra:
        name, seconds = text.split("=")
        score = float(seconds) * k
        slope = factor * score + 2 * a["decode"]
        print(f"| {name} | {float(seconds):.1f} | {rest + score:.0f} | {score:.0f} | {fixed + slope:.0f} | {slope:.0f} | {(fixed + slope) / (rest + score):.2f} | DRaFT extrapolated |")
    print(f"\nLimit for ever larger rewards: {factor:.2f} (gradient pass over scoring pass of {n}).")


main(sys.argv[1], sys.argv[2:])
