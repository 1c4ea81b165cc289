"""Times one update of SD-Turbo at full size in PyTorch: the peer of `drpo bench --model FOLDER`.

    peer_full.py FOLDER --candidates 4 --resolution 256

The reference trainer, channels-last, without gradient checkpointing, with allocator settings that keep pages (keep_memory): the
fastest that plain PyTorch was seen to be. The reward is redness, the features are latent_mean_8 and latent_std_8. Prints one JSON
line: median seconds per update and peak resident memory. The first update is not timed.
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
from tiny.common import keep_memory, to_images


class RedTrainer(Trainer):
    def score(self, latents, meta):
        pictures = torch.from_numpy(to_images(self.vae, latents, 1)).double().mean((1, 2))
        return pictures[:, 0] - pictures[:, 1:].mean(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    k, side = options.candidates, options.resolution // 8
    features = {"latent": ["latent_mean_8", "latent_std_8"]}
    trainer = RedTrainer(Settings(model=options.folder, candidates=k, positives=1, negatives=1, lambda_ref=0.5, features=features))
    del trainer.vae.encoder
    draw = torch.Generator().manual_seed(0)
    seconds = []
    for _ in range(options.steps + 1):
        noise = torch.randn(1, k, 4, side, side, generator=draw)
        start = time.perf_counter()
        trainer.update([{"prompt": "a red fox in the snow"}], noise)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"program": "pytorch", "median_seconds_per_update": median, "images_per_second": k / median, "peak_bytes": peak}))


main()
