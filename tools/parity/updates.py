"""Ten live updates of `drpo train` beside the reference trainer in float64, from the same noise, prompts and adapter.

The same inputs as tests/golden/updates, but both sides run now. float32 cannot follow float64 below a floor that settings.json
records for PyTorch itself ("float32_error_of_pytorch"); where that floor lies above the strict limit, twice the floor is the limit.
"""

import json
import os
import sys

import torch
from common import ROOT, check, drpo, finish
from safetensors.torch import load_file
from trainer import Settings, Trainer

from tiny.common import read_jsonl

work = sys.argv[1]
given = os.path.join(ROOT, "tests", "golden", "updates")
with open(given + "/settings.json") as f:
    facts = json.load(f)
facts["model"] = os.path.join(ROOT, facts["model"])
settings = Settings(**{k: v for k, v in facts.items() if k in Settings.__dataclass_fields__})
floor, per_step = facts["float32_error_of_pytorch"], facts["prompts_per_step"]
features = "+".join(
    ("latent?keys=" if net == "latent" else f"resnet:{net}?keys=") + ",".join(keys) for net, keys in settings.features.items()
)


def train(backend, out, *more):
    drpo("train", "--model", settings.model, "--prompts", given + "/prompts.jsonl", "--prompt-order", "file", "--reward", "scene",
         "--noise", given + "/noise.safetensors", "--lora-init", given + "/lora_init.safetensors", "--steps", settings.steps,
         "--prompts-per-step", per_step, "--candidates", settings.candidates, "--positives", settings.positives,
         "--negatives", settings.negatives, "--lora-rank", settings.lora_rank, "--lora-alpha", settings.lora_alpha,
         "--lambda-ref", settings.lambda_ref, "--features", features, "--lr", settings.lr, "--lr-schedule", "constant", "--warmup", 0,
         "--eval-every", 0, "--backend", backend, "--out", out, *more)  # fmt: skip
    return load_file(out + "/final/adapter_model.safetensors")


def distances(weights):
    return torch.cat([(weights[k].double() - v).abs().flatten() for k, v in trainer.lora().items()])


weights = train("cpu", work + "/run", "--dump-gradients", work + "/gradient.safetensors")
metas, noise = read_jsonl(given + "/prompts.jsonl"), load_file(given + "/noise.safetensors")["noise"]
trainer = Trainer(settings, torch.float64)
trainer.load_lora(load_file(given + "/lora_init.safetensors"))
reports = [trainer.update(metas[i * per_step : (i + 1) * per_step], noise[i]) for i in range(settings.steps)]

found = {k.removeprefix("grad."): v for k, v in load_file(work + "/gradient.safetensors").items()}
exact = reports[0]["gradient"]
missing = set(exact) ^ set(found)
check("gradients that only one side has", len(missing), 0)
errors = sorted(float((found[k].double() - exact[k]).norm() / exact[k].norm()) for k in exact if k in found)
check("gradient of update 1, largest relative error of a tensor", errors[-1], max(1e-4, 2 * floor["gradient_largest"]))
check("gradient of update 1, median", errors[len(errors) // 2], max(1e-4, 2 * floor["gradient_median"]))

with open(work + "/run/metrics.jsonl") as f:
    lines = list(map(json.loads, f))
check("updates without a line", settings.steps - len(lines), 0)
for mine, name in (("pref_loss", "preference"), ("ref_loss", "reference"), ("grad_norm", "norm")):
    worst = max(abs(line[mine] - r[name]) / r[name] for line, r in zip(lines, reports))
    check(f"{mine} along ten updates, largest relative difference", worst, 1e-3 if name == "norm" else 1e-4)
apart = distances(weights)
check("weights after ten updates, root mean square difference", float(apart.pow(2).mean().sqrt()), max(1e-5, 2 * floor["step10_rms"]))
# AdamW turns a gradient near zero into a step of full size whose sign is rounding, in PyTorch's float32 too; double precision
# has no such entries, so there every single weight must agree.
exact = distances(train("ref", work + "/run-double"))
check("weights after ten updates in double precision, largest difference", float(exact.max()), 1e-5)
finish()
