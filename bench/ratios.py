"""Medians of a bench run and the ratios between the two programs. Argument: the JSON lines that bench/run.sh wrote."""

import json
import statistics
import sys

rows = [json.loads(line) for line in open(sys.argv[1]) if line.strip()]
value = lambda program, key: statistics.median(r[key] for r in rows if r.get("program") == program)
print(f"{'':24}{'drpo':>12}{'PyTorch':>12}{'ratio':>10}")
for key, label, scale in (
    ("median_seconds_per_update", "seconds per update", 1),
    ("images_per_second", "images per second", 1),
    ("peak_bytes", "peak memory, MiB", 2**-20),
):
    ours, theirs = value("drpo", key) * scale, value("pytorch", key) * scale
    ratio = ours / theirs if key == "images_per_second" else theirs / ours
    print(f"{label:24}{ours:12.3f}{theirs:12.3f}{ratio:9.2f}x")
