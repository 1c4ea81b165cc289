"""Times the PyTorch reference trainer on one update with the demo's rewards: the peer that drpo is measured against.

Same prompts per update, candidates, rewards, features, adapter and threads as `drpo bench --config bench/update.yaml`; allocator
settings that keep pages (keep_memory). Prints one JSON line: median seconds per update and peak resident memory. The first
update is not timed.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from dataclasses import replace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "reference"))
from trainer import Settings, Trainer

import numpy as np
import torch
from tiny.common import PROMPTS, keep_memory, read_jsonl, to_images
from tiny.verifier import verify

DEMO = Settings(
    features={"latent": ["latent_patch_8", "latent_mean_4"]},
    radii=(0.1, 0.3, 1.0),
    lambda_ref=0.0,
    latent_l2=2.0,
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"),
    lr=7e-4,
)


def warmth(image):
    """The demo's taste, examples/rewards/warm.py, of one picture [H,W,3] in [0,1]."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    seen = image[np.abs(image - np.median(border, 0)).max(-1) > 0.2]
    return float(seen[:, 0].mean() - seen[:, 2].mean()) if len(seen) >= 20 else -1.0


class DemoTrainer(Trainer):
    def score(self, latents, meta):
        images = to_images(self.vae, latents)
        total = 0
        for weight, scores in ((0.4, [warmth(i) for i in images]), (0.6, [verify(i, meta)[1] for i in images])):
            x = torch.tensor(scores, dtype=torch.float64)
            total = total + weight * (x - x.mean()) / x.std(unbiased=False).clamp_min(1e-6)
        return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--prompts-per-step", type=int, default=28)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    trainer = DemoTrainer(replace(DEMO, candidates=options.candidates))
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
