"""Golden files of one update's gradient for other methods and objectives: tests/golden/methods/.

  methods.safetensors    grad.<case>.<PEFT name>: float64 gradient of the mean loss over two prompts, <case>.loss; scores [2,K];
                         picture [64,64,3]: what PSO's reward sees of the first candidate; noise [1,2,K,4,16,16]
  lora_init.safetensors  the adapter, PEFT names; adapter_config.json holds its rank and alpha

Prompts are the first two of tests/golden/updates/prompts.jsonl. Scores are given, so nothing depends on a ranking.
"""

import os

import methods
import soft
import torch
from golden_updates import initial_lora, write_adapter_config
from safetensors.torch import save_file
from trainer import Settings, Trainer, one_step

from tiny.common import FIRST, ROOT, read_jsonl, to_images

OUT = os.path.join(ROOT, "tests", "golden", "methods")
K, RANK = 6, 2
FEATURES = {"tiny-dae": ["layer4_mean", "layer4_std"], "latent": ["latent_mean_8", "latent_std_8"]}
PSO = dict(beta=20.0, std=0.3, clip=0.2)


def soft_update(trainer, x, ref, scores):
    """awr-contrast on every key with --feature-l2 0.3 and --diversity 0.5, plus --anchor 0.4 on the latents; keys averaged."""
    y = (scores - scores.mean()) / scores.std(unbiased=False).clamp_min(1e-6)
    feature, base = trainer.feature(x), trainer.feature(ref)
    total = 0.0
    for key, value in feature.items():
        rows = lambda v: v.reshape(-1, v.shape[-1])
        each = y.repeat_interleave(value.shape[1])
        total = total + soft.means_loss(rows(value), rows(base[key]), each, "awr-contrast", (0.05, 0.3, 1.0))
        total = total + 0.3 * ((value - base[key]) ** 2).mean() + 0.5 * soft.diversity_loss(value, base[key], 1.2)
    return total / len(feature) + 0.4 * soft.anchor_loss(x, ref, y, 0.9, 1.5, 0.1)


CASES = {
    "dpo": lambda t, x, ref, z, r: methods.dpo_loss(x, ref, r, 2, 2, 30.0) + 0.5 * ((x - ref) ** 2).mean(),
    "pso": lambda t, x, ref, z, r: methods.pso_loss(x, ref, z, r, **PSO),
    "grpo": lambda t, x, ref, z, r: methods.grpo_loss(x, ref, r, range(K), l2=0.02),
    "soft": lambda t, x, ref, z, r: soft_update(t, x, ref, r),
}


def main():
    targets = ("to_k", "to_out.0")
    settings = Settings(model=FIRST, candidates=K, lora_rank=RANK, lora_alpha=float(RANK), lora_targets=targets, features=FEATURES)
    trainer = Trainer(settings, torch.float64)
    start = initial_lora(trainer, 11)
    start = {k: (v * 3 if ".lora_B." in k else v).half().float() for k, v in start.items()}
    trainer.load_lora(dict(start))
    draw = torch.Generator().manual_seed(12)
    noise = torch.randn(2, K, 4, 16, 16, generator=draw).half().float()
    scores = torch.randn(2, K, generator=draw).float()
    prompts = read_jsonl(os.path.join(ROOT, "tests", "golden", "updates", "prompts.jsonl"))[:2]
    texts = trainer.encode([m["prompt"] for m in prompts])
    out = {"scores": scores, "noise": noise[None]}
    for name, loss_of in CASES.items():
        trainer.optimizer.zero_grad()
        total = 0.0
        for i in range(2):
            z, text = noise[i].double(), texts[i : i + 1].expand(K, -1, -1)
            x, ref = one_step(trainer.unet, z, text), trainer.base(z, text)
            loss = loss_of(trainer, x, ref, z, scores[i].double()) / 2
            loss.backward()
            total += loss.item()
            if name == "pso" and i == 0:
                out["picture"] = torch.tensor(to_images(trainer.vae, methods.pso_action(x, z, PSO["std"]))[0])
        gradient = trainer.lora({n: p.grad for n, p in trainer.parameters.items()})
        out.update({f"grad.{name}.{k}": v for k, v in gradient.items()})
        out[f"{name}.loss"] = torch.tensor([total])
        print(name, "loss", total, "norm", sum(float(g.norm()) ** 2 for g in gradient.values()) ** 0.5)
    os.makedirs(OUT, exist_ok=True)
    save_file({k: v.float().contiguous() for k, v in out.items()}, OUT + "/methods.safetensors")
    save_file({k: v.half().contiguous() for k, v in start.items()}, OUT + "/lora_init.safetensors")
    write_adapter_config(settings, OUT)
    for name in sorted(os.listdir(OUT)):
        os.chmod(f"{OUT}/{name}", 0o644)
        print(name, os.path.getsize(f"{OUT}/{name}") // 1000, "kB")


if __name__ == "__main__":
    main()
