"""Medians of a bench run and the ratios between the two programs. Argument: the JSON lines that bench/run.sh wrote."""

import json
import statistics
import sys

rows = [json.loads(line) for line in open(sys.argv[1]) if line.strip()]

print(f"{'':34}{'drpo':>12}{'PyTorch':>12}{'ratio':>10}")
for key, label, scale in (
    ("median_seconds_per_update", "seconds per update", 1),
    ("images_per_second", "images per second", 1),
    ("peak_bytes", "peak memory, MiB", 2**-20),
    ("start_seconds", "seconds from start to an update", 1),
    ("seconds_to_generator", "seconds from start to the UNet", 1),
    ("seconds_to_picture", "seconds from start to a picture", 1),
    ("peak_bytes_of_sampling", "peak memory of sampling, MiB", 2**-20),
):
    found = {p: [r[key] * scale for r in rows if r.get("program") == p and key in r] for p in ("drpo", "pytorch")}
    if not all(found.values()):
        continue
    ours, theirs = (statistics.median(found[p]) for p in ("drpo", "pytorch"))
    ratio = ours / theirs if key == "images_per_second" else theirs / ours
    print(f"{label:34}{ours:12.3f}{theirs:12.3f}{ratio:9.2f}x")
