"""The reference: Drifting Preference Optimization of the embedded generator in plain PyTorch.

One update, for every prompt: K noises -> clean latents of the policy and of the frozen base -> pictures -> scores -> the best
attract, the worst repel -> drift of every feature key -> gradient with respect to the latents -> LoRA -> clip -> AdamW.
"""

import os
import sys
from dataclasses import dataclass, field

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from drift import drift_gradient
from tiny.common import ASSETS, MODEL, load_model, one_step, to_images, token_ids
from tiny.features import LatentResNet, pooled
from tiny.verifier import verify

PEFT_PREFIX = "base_model.model."


@dataclass
class Settings:
    model: str = MODEL  # folder
    candidates: int = 16
    positives: int = 4
    negatives: int = 4
    kernel: str = "laplacian"
    radii: tuple = (0.02, 0.05, 0.2)
    w_pos: float = 3000.0
    w_neg: float = 3000.0
    w_ref: float = 3000.0
    w_ref_neg: float = 3000.0
    lambda_ref: float = 0.2
    latent_l2: float = 0.0  # weight of the mean square between the policy's and the base's latents
    features: dict = field(  # feature network (or "latent") -> its keys; the losses of all keys are added
        default_factory=lambda: {"tiny-dae": ["layer4_mean", "layer4_std"], "latent": ["latent_mean_8", "latent_std_8"]}
    )
    lora_rank: int = 16
    lora_alpha: float = 16.0
    lora_targets: tuple = ("to_q", "to_k", "to_v", "to_out.0")
    lr: float = 1e-3
    lr_schedule: str = "constant"  # or "linear": falls to zero over `steps`
    warmup: int = 0
    steps: int = 10
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip: float = 1.0
    seed: int = 0


class Trainer:
    def __init__(self, settings, dtype=torch.float32):
        from peft import LoraConfig

        self.settings, self.dtype = settings, dtype
        torch.manual_seed(settings.seed)
        self.vae, self.unet, self.text_encoder, self.tokenizer = load_model(settings.model, dtype)
        self.networks = {
            name: LatentResNet.load(os.path.join(ASSETS, name)).to(dtype) for name in settings.features if name != "latent"
        }
        targets = list(settings.lora_targets)
        self.unet.add_adapter(LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=targets))
        self.parameters = {n: p for n, p in self.unet.named_parameters() if p.requires_grad}
        for p in self.parameters.values():
            p.data = p.data.to(dtype)
        s = settings
        self.optimizer = torch.optim.AdamW(self.parameters.values(), s.lr, betas=s.betas, eps=s.eps, weight_decay=s.weight_decay)
        self.updates = 0

    # ---- adapter ----

    def lora(self, values=None):
        """{PEFT key: value} of the adapter, or of `values` {parameter name: tensor}."""
        values = values or {n: p.detach() for n, p in self.parameters.items()}
        return {PEFT_PREFIX + n.replace(".default.", "."): v.clone() for n, v in values.items()}

    def load_lora(self, tensors):
        for name, p in self.parameters.items():
            p.data.copy_(tensors.pop(PEFT_PREFIX + name.replace(".default.", ".")))
        if tensors:
            raise KeyError(f"unused LoRA tensors: {sorted(tensors)[:3]}")

    # ---- stages ----

    def encode(self, prompts):
        with torch.no_grad():
            return self.text_encoder(token_ids(self.tokenizer, prompts))[0]

    def base(self, noise, text):
        self.unet.disable_adapters()
        with torch.no_grad():
            latents = one_step(self.unet, noise, text)
        self.unet.enable_adapters()
        return latents

    def score(self, latents, meta):
        """[N] rewards in [0,1] of the scene verifier."""
        return torch.tensor([verify(image, meta)[1] for image in to_images(self.vae, latents)], dtype=torch.float64)

    def feature(self, latents):
        """{(network, key): [N,tokens,D]}"""
        found = {}
        for name, keys in self.settings.features.items():
            maps = {"latent": latents} if name == "latent" else self.networks[name].maps(latents)
            found.update({(name, key): pooled(maps, key) for key in keys})
        return found

    def drift(self, feature, reference, best, worst):
        """Losses (preference, reference) and {key: gradient [K,tokens,D]} of one prompt; best and worst are rows of it."""
        s = self.settings
        losses, gradients = [0.0, 0.0], {}
        for key, value in feature.items():
            k, tokens, width = value.shape
            x = value.detach()
            flat = x.reshape(-1, width)
            rows = lambda picked: x[picked].reshape(-1, width)
            loss, gradient = drift_gradient(flat, rows(best), rows(worst), s.w_pos, s.w_neg, s.radii, kernel=s.kernel)
            losses[0] += loss.item()
            if s.lambda_ref > 0:
                other = reference[key].reshape(-1, width)
                loss, term = drift_gradient(flat, other, flat, s.w_ref, s.w_ref_neg, s.radii, mask=True, kernel=s.kernel)
                losses[1] += loss.item()
                gradient = gradient + s.lambda_ref * term
            gradients[key] = gradient.reshape(k, tokens, width)
        return losses, gradients

    # ---- one update ----

    def learning_rate(self):
        s = self.settings
        rate = s.lr * min(1.0, (self.updates + 1) / s.warmup if s.warmup else 1.0)
        return rate * (1 - self.updates / s.steps) if s.lr_schedule == "linear" else rate

    def gradients(self, metas, noise, scores=None):
        """Leaves d loss / d LoRA in the parameters. metas: prompts with metadata; noise [P,K,4,16,16]; scores [P,K] or None: the
        verifier's. -> what happened, as a dictionary; no "gradient" in it when every prompt was skipped."""
        s = self.settings
        report = {"scores": [], "preference": 0.0, "reference": 0.0, "skipped": 0}
        pending = []
        texts = self.encode([m["prompt"] for m in metas])
        self.optimizer.zero_grad()
        for i, meta in enumerate(metas):
            z = noise[i].to(self.dtype)
            text = texts[i : i + 1].expand(len(z), -1, -1)
            latents = one_step(self.unet, z, text)
            reward = self.score(latents.detach(), meta) if scores is None else scores[i].double()
            report["scores"].append(reward)
            if reward.max() == reward.min():
                report["skipped"] += 1
                continue
            order = reward.argsort(descending=True, stable=True)
            leaf = latents.detach().requires_grad_(True)
            feature = self.feature(leaf)
            with torch.no_grad():
                base = self.base(z, text) if s.lambda_ref > 0 or s.latent_l2 > 0 else None
                reference = self.feature(base) if s.lambda_ref > 0 else {}
            losses, gradients = self.drift(feature, reference, order[: s.positives], order[-s.negatives :])
            torch.autograd.backward([feature[k] for k in gradients], list(gradients.values()))
            if s.latent_l2 > 0:
                leaf.grad += 2 * s.latent_l2 / leaf.numel() * (leaf.detach() - base)
            pending.append((latents, leaf.grad, losses))
        for latents, gradient, (preference, reference) in pending:
            latents.backward(gradient / len(pending))
            report["preference"] += preference / len(pending)
            report["reference"] += reference / len(pending)
        report["loss"] = report["preference"] + s.lambda_ref * report["reference"]
        report["scores"] = torch.stack(report["scores"])
        if pending:
            report["gradient"] = self.lora({n: p.grad for n, p in self.parameters.items()})
        return report

    def update(self, metas, noise, scores=None):
        """One update; the report of gradients() with the gradient's "norm" before clipping."""
        report = self.gradients(metas, noise, scores)
        if "gradient" in report:
            report["norm"] = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip))
            self.optimizer.param_groups[0]["lr"] = self.learning_rate()
            self.optimizer.step()
        self.updates += 1
        return report
