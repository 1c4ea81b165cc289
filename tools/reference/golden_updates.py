"""Golden files of ten updates: tests/golden/updates/.

  settings.json          every setting, how close the ranking of scores came to a tie, and how far PyTorch's own float32 run
                         is from the float64 one (the floor below which a float32 comparison tells nothing)
  prompts.jsonl          two prompts for each update, in their order
  noise.safetensors      noise [steps,prompts,K,4,16,16]
  lora_init.safetensors  the adapter before the first update, PEFT names; adapter_config.json holds its rank and alpha
  updates.safetensors    grad.<PEFT name>: gradient of update 1 before clipping; step1.<name>, step<last>.<name>: weights after it;
                         loss, preference, reference, norm [steps]; scores [steps,prompts,K]

Everything is computed in float64. The scores come from the scene verifier; prompts and noises are picked so that every ranking
is clear (no selected candidate within MARGIN of one that is not), or rounding would decide which candidates attract and repel.
"""

import json
import os
import random
from dataclasses import asdict

import torch
from safetensors.torch import save_file
from trainer import PEFT_PREFIX, Settings, Trainer, one_step

from tiny.common import FIRST, PROMPTS, ROOT, read_jsonl

OUT = os.path.join(ROOT, "tests", "golden", "updates")
PROMPTS_PER_STEP, MARGIN, RANK, STEADY_TRIES = 2, 0.01, 4, 16


def initial_lora(trainer, seed):
    """A uniform in +-1/sqrt(in), as PEFT; B small instead of zero, so that A has a gradient from the first update."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, p in trainer.lora().items():
        if ".lora_A." in name:
            tensors[name] = (torch.rand(p.shape, generator=draw) * 2 - 1) / p.shape[1] ** 0.5
        else:
            tensors[name] = torch.randn(p.shape, generator=draw) * 0.01
    return {k: v.half().float() for k, v in tensors.items()}


def margin(scores, settings):
    """Smallest gap across the borders of the selection."""
    ranked = scores.sort(descending=True).values
    top, bottom = settings.positives, len(ranked) - settings.negatives
    return min(float(ranked[top - 1] - ranked[top]), float(ranked[bottom - 1] - ranked[bottom]))


def pick(trainer, prompts, choose, draw):
    """A prompt and noises whose scores under the present adapter rank clearly -> (prompt, noise, margin)."""
    settings = trainer.settings
    while True:
        meta = choose.choice(prompts)
        noise = torch.randn(settings.candidates, 4, 16, 16, generator=draw).half().float()
        text = trainer.encode([meta["prompt"]]).expand(len(noise), -1, -1)
        with torch.no_grad():
            scores = trainer.score(one_step(trainer.unet, noise.to(trainer.dtype), text), meta)
        if margin(scores, settings) > MARGIN:
            return meta, noise, margin(scores, settings)


def relative_errors(found, wanted):
    return sorted(float((found[k].double() - wanted[k]).norm() / wanted[k].norm()) for k in wanted)


def pick_steady(trainer, single, prompts, choose, draw):
    """Of many picks the one whose gradient float32 disturbs least: a ReLU of the feature network that lies at its kink, or a
    distance that the smallest radius magnifies, tells nothing about the code under test."""
    best = None
    for _ in range(STEADY_TRIES):
        picked = pick(single, prompts, choose, draw)
        exact, rough = (t.gradients([picked[0]], picked[1][None]) for t in (trainer, single))
        error = relative_errors(rough["gradient"], exact["gradient"])[-1]
        if best is None or error < best[0]:
            best = (error, picked)
    return best[1]


def main():
    settings = Settings(model=FIRST, candidates=6, positives=2, negatives=2, lora_rank=RANK, lora_alpha=float(RANK), steps=10)
    trainer, single = Trainer(settings, torch.float64), Trainer(settings, torch.float32)
    start = initial_lora(trainer, 1)
    trainer.load_lora(dict(start))
    single.load_lora(dict(start))
    draw, choose = torch.Generator().manual_seed(2), random.Random(3)
    prompts = read_jsonl(os.path.join(PROMPTS, "train.jsonl"))
    steps, result, floor = [], {}, {}
    for step in range(1, settings.steps + 1):
        find = (lambda *a: pick_steady(trainer, single, *a)) if step == 1 else (lambda *a: pick(single, *a))
        picked = [find(prompts, choose, draw) for _ in range(PROMPTS_PER_STEP)]
        metas, noise = [p[0] for p in picked], torch.stack([p[1] for p in picked])
        report, rough = trainer.update(metas, noise), single.update(metas, noise)
        steps.append((metas, noise, min(p[2] for p in picked), report))
        if step == 1:
            result.update({"grad." + k: v for k, v in report["gradient"].items()})
            errors = relative_errors(rough["gradient"], report["gradient"])
            floor["gradient_largest"], floor["gradient_median"] = errors[-1], errors[len(errors) // 2]
        if step in (1, settings.steps):
            exact, found = trainer.lora(), single.lora()
            result.update({f"step{step}.{k}": v for k, v in exact.items()})
            apart = torch.cat([(found[k] - exact[k]).abs().flatten() for k in exact])
            floor[f"step{step}_largest"], floor[f"step{step}_rms"] = float(apart.max()), float(apart.pow(2).mean().sqrt())
            floor[f"step{step}_share_above_1e-5"] = float((apart > 1e-5).double().mean())
        print(
            step, [m["prompt"] for m in metas], f"loss {report['loss']:.6f} norm {report['norm']:.4f} margin {steps[-1][2]:.4f}"
        )
    for name in ("loss", "preference", "reference", "norm"):
        result[name] = torch.tensor([s[3][name] for s in steps])
    result["scores"] = torch.stack([s[3]["scores"] for s in steps])
    write(settings, steps, start, result, floor)


def write_adapter_config(settings, folder=OUT):
    config = {
        "peft_type": "LORA",
        "r": settings.lora_rank,
        "lora_alpha": settings.lora_alpha,
        "target_modules": list(settings.lora_targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
    }
    with open(folder + "/adapter_config.json", "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


def write(settings, steps, start, result, floor):
    os.makedirs(OUT, exist_ok=True)
    save_file({"noise": torch.stack([s[1] for s in steps]).contiguous()}, OUT + "/noise.safetensors")
    save_file({k: v.half().contiguous() for k, v in start.items()}, OUT + "/lora_init.safetensors")
    write_adapter_config(settings)
    save_file({k: v.float().contiguous() for k, v in result.items()}, OUT + "/updates.safetensors")
    with open(OUT + "/prompts.jsonl", "w") as f:
        f.writelines(json.dumps(m) + "\n" for s in steps for m in s[0])
    facts = {
        "model": "tests/fixtures/tiny-turbo",
        "prompts_per_step": PROMPTS_PER_STEP,
        "reward": "scene",
        "peft_prefix": PEFT_PREFIX,
        "smallest_margin": min(s[2] for s in steps),
        "float32_error_of_pytorch": floor,
    }
    with open(OUT + "/settings.json", "w") as f:
        json.dump({**asdict(settings), **facts}, f, indent=1)
        f.write("\n")
    for name in sorted(os.listdir(OUT)):
        os.chmod(f"{OUT}/{name}", 0o644)
        print(name, os.path.getsize(f"{OUT}/{name}") // 1000, "kB")


if __name__ == "__main__":
    main()
