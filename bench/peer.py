"""Times the PyTorch reference trainer on the embedded model: the peer that drpo is measured against.

Same prompts per update, candidates, features and threads as `drpo bench`; allocator settings that keep pages (keep_memory).
Prints one JSON line: median seconds per update and peak resident memory. The first update is not timed.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "reference"))
from trainer import Settings, Trainer

import torch
from tiny.common import PROMPTS, keep_memory, read_jsonl


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--prompts-per-step", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    trainer = Trainer(Settings(candidates=options.candidates, lambda_ref=0.5))
    prompts = read_jsonl(os.path.join(PROMPTS, "train.jsonl"))
    draw = torch.Generator().manual_seed(0)
    seconds = []
    for step in range(options.steps + 1):
        first = step * options.prompts_per_step
        metas = [prompts[(first + i) % len(prompts)] for i in range(options.prompts_per_step)]
        noise = torch.randn(len(metas), options.candidates, 4, 16, 16, generator=draw)
        start = time.perf_counter()
        trainer.update(metas, noise)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    images = options.candidates * options.prompts_per_step
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"program": "pytorch", "median_seconds_per_update": median, "images_per_second": images / median, "peak_bytes": peak}))


main()
