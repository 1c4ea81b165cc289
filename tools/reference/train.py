"""Trains the embedded generator with the reference trainer: the yardstick for drpo's results, speed and memory.

  python3 train.py --steps 30 --prompts-per-step 8 --candidates 16 --lr 2e-3 --lr-schedule linear --out runs/reference
  python3 train.py --steps 10 --noise noise.safetensors --lora-init lora_init.safetensors --prompts prompts.jsonl --prompt-order file

Writes OUT/adapter_model.safetensors (PEFT names), OUT/updates.json and, with --dump, every gradient of update 1 and the weights after
each update. The last line of output is JSON: seconds per update and peak memory.
"""

import argparse
import json
import os
import random
import resource
import sys
import time
from dataclasses import asdict

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from tiny.common import PROMPTS, keep_memory, read_jsonl


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--prompts-per-step", type=int, default=8)
    p.add_argument("--candidates", type=int, default=16)
    p.add_argument("--positives", type=int, default=4)
    p.add_argument("--negatives", type=int, default=4)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--lr-schedule", choices=("constant", "linear"), default="constant")
    p.add_argument("--warmup", type=int, default=0)
    p.add_argument("--lora-rank", type=int, default=16)
    p.add_argument("--lora-alpha", type=float)
    p.add_argument("--lambda-ref", type=float, default=0.2)
    p.add_argument("--radii", type=lambda text: tuple(map(float, text.split(","))), default=(0.02, 0.05, 0.2))
    p.add_argument("--kernel", choices=("laplacian", "rbf", "cosine"), default="laplacian")
    p.add_argument(
        "--features", default="latent:latent_mean_8,latent_std_8+tiny-dae:layer4_mean,layer4_std", help="NET:KEY,KEY+NET:KEY,..."
    )
    p.add_argument("--prompts", default=os.path.join(PROMPTS, "train.jsonl"))
    p.add_argument("--prompt-order", choices=("shuffle", "file"), default="shuffle")
    p.add_argument("--noise", help="safetensors, tensor `noise` [steps,prompts,K,4,16,16]")
    p.add_argument("--scores", help="safetensors, tensor `scores` [steps,prompts,K]; without it the scene verifier scores")
    p.add_argument("--lora-init", help="safetensors with PEFT names")
    p.add_argument("--dump", help="folder for gradients and weights")
    p.add_argument("--out")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    p.add_argument("--threads", type=int, default=2)
    return p


def settings_of(a):
    from trainer import Settings

    features = {name: keys.split(",") for name, keys in (part.split(":") for part in a.features.split("+"))}
    same = "steps candidates positives negatives lr lr_schedule warmup lora_rank lambda_ref radii kernel seed".split()
    alpha = a.lora_rank if a.lora_alpha is None else a.lora_alpha
    return Settings(**{name: getattr(a, name) for name in same}, lora_alpha=float(alpha), features=features)


def prompt_picker(a, prompts):
    draw = random.Random(a.seed)
    if a.prompt_order == "file":
        return lambda step: [prompts[(step * a.prompts_per_step + i) % len(prompts)] for i in range(a.prompts_per_step)]
    return lambda step: [draw.choice(prompts) for _ in range(a.prompts_per_step)]


def main():
    import torch
    from safetensors.torch import load_file, save_file
    from trainer import Trainer

    a = parser().parse_args()
    torch.set_num_threads(a.threads)
    trainer = Trainer(settings_of(a), getattr(torch, a.dtype))
    if a.lora_init:
        trainer.load_lora(load_file(a.lora_init))
    given_noise = load_file(a.noise)["noise"] if a.noise else None
    given_scores = load_file(a.scores)["scores"] if a.scores else None
    pick = prompt_picker(a, read_jsonl(a.prompts))
    draw = torch.Generator().manual_seed(a.seed)
    history, seconds = [], []
    for step in range(a.steps):
        start = time.time()
        metas = pick(step)
        noise = torch.randn(len(metas), a.candidates, 4, 16, 16, generator=draw) if given_noise is None else given_noise[step]
        report = trainer.update(metas, noise, None if given_scores is None else given_scores[step])
        seconds.append(time.time() - start)
        kept = {k: report.get(k) for k in ("loss", "preference", "reference", "norm", "skipped")}
        history.append({"step": step + 1, "reward": float(report["scores"].mean()), "seconds": seconds[-1], **kept})
        print(json.dumps(history[-1]), flush=True)
        if a.dump:
            os.makedirs(a.dump, exist_ok=True)
            if step == 0:
                save_file({k: v.float() for k, v in report["gradient"].items()}, a.dump + "/gradient.safetensors")
            save_file({k: v.float() for k, v in trainer.lora().items()}, f"{a.dump}/step{step + 1}.safetensors")
    if a.out:
        os.makedirs(a.out, exist_ok=True)
        save_file({k: v.float() for k, v in trainer.lora().items()}, a.out + "/adapter_model.safetensors")
        with open(a.out + "/updates.json", "w") as f:
            json.dump({"settings": asdict(trainer.settings), "updates": history}, f, indent=1)
    timed = seconds[1:] or seconds  # the first update also warms caches
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds_per_update": sum(timed) / len(timed), "peak_rss_bytes": peak, "threads": a.threads}))


if __name__ == "__main__":
    keep_memory()
    main()
