"""The run's TensorBoard events, read by the tensorboard package, say what metrics.jsonl and the gauges of eval.jsonl say."""

import glob
import json
import os
import sys

from common import MODEL, check, check_at_least, drpo, finish
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS = 3
KEYS = {"reward/mean": "reward", "reward/std": "reward_std", "reward/best": "reward_best", "reward/worst": "reward_worst",
        "loss/preference": "pref_loss", "loss/reference": "ref_loss"}  # fmt: skip

work = sys.argv[1]
run = work + "/run"
drpo("train", "--model", MODEL, "--steps", STEPS, "--prompts-per-step", 1, "--candidates", 4, "--positives", 1, "--negatives", 1,
     "--eval-every", STEPS, "--eval-limit", 6, "--eval-seeds", 1, "--out", run)  # fmt: skip
files = [p for p in glob.glob(run + "/**/*tfevents*", recursive=True)]
check_at_least("event files", len(files), 1)
events = EventAccumulator(os.path.dirname(files[0]), size_guidance={"scalars": 0, "images": 0})
events.Reload()
tags = events.Tags()
with open(run + "/metrics.jsonl") as f:
    lines = {line["step"]: line for line in map(json.loads, f)}


def recorded(line, tag):
    """The value of metrics.jsonl that a tag shows; None for tags of other files (eval/...)."""
    group, name = tag.split("/", 1)
    if group == "reward" and name in line["rewards"]:
        return line["rewards"][name]
    return line["time"]["seconds"] if group == "time" else line.get(KEYS.get(tag, name))


def gauge(line, tag):
    """The value of eval.jsonl that a tag of gauges shows."""
    gauges, name = line["gauges"], tag.split("/", 1)[1]
    if name in ("distance", "pixel_distance"):
        return gauges["distance"]["pixels" if name == "pixel_distance" else "latent"]
    if name.endswith("_over_base"):
        return gauges["ratio"][name.removesuffix("_over_base")]
    return gauges[name]["tuned"]


seen, worst = set(), 0.0
for tag in (t for t in tags["scalars"] if not t.startswith(("eval/", "gauges/"))):
    for event in events.Scalars(tag):
        value = recorded(lines[event.step], tag)
        seen.add((tag, event.step))
        worst = max(worst, abs(event.value - value) / max(1e-6, abs(value)))
check_at_least("scalars of updates", len(seen), 10 * STEPS)
check("scalars beside metrics.jsonl, largest relative difference", worst, 1e-6)
with open(run + "/eval.jsonl") as f:
    evaluations = {line["step"]: line for line in map(json.loads, f)}
shown = [(gauge(evaluations[e.step], t), e.value) for t in tags["scalars"] if t.startswith("gauges/") for e in events.Scalars(t)]
check_at_least("gauges", len(shown), 6)
check("gauges beside eval.jsonl, largest difference", max(abs(a - b) for a, b in shown), 1e-5)
check_at_least("evaluation scalars", sum(t.startswith("eval/") for t in tags["scalars"]), 1)
grids = [e for t in tags["images"] for e in events.Images(t)]
check_at_least("evaluation grids that are PNG pictures", sum(e.encoded_image_string.startswith(b"\x89PNG") for e in grids), 1)
finish()
