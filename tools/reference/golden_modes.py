"""Golden files of one update's gradient from given pictures, through maps beside the generator, and through a reward's own gradient:
tests/golden/modes/.

  modes.safetensors      grad.<case>.<PEFT name>: float64 gradient of the mean loss over two prompts, <case>.loss; scores [2,K];
                         distance.<case> [2,K]; full.<weight> [2]: norm and a product of DRaFT's gradient of all weights; noise [1,2,K,4,16,16]
  lora_init.safetensors  the adapter, PEFT names; adapter_config.json holds its rank and alpha
  pairs.jsonl, *.png     given pictures of other sizes than the generator's

Prompts are the first two of tests/golden/updates/prompts.jsonl. Pictures are resized by torch's antialiased bilinear filter.
"""

import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from drift import drift_gradient
from golden_updates import initial_lora, write_adapter_config
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from trainer import Settings, Trainer, one_step

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from features import feature as vit_feature
from features import pixels
from transformers import Dinov2Model

from tiny.common import FIRST, ROOT, read_jsonl

OUT = os.path.join(ROOT, "tests", "golden", "modes")
DINOV2 = os.path.join(ROOT, "tests", "golden", "feature_dinov2")
K, RANK, SIDE, POSITIVES, NEGATIVES, LAMBDA = 6, 1, 64, 2, 2, 0.5
RADII = (0.05, 0.3, 1.0)
LATENT_KEYS, DINO_KEYS = ["latent_mean_8", "latent_std_8"], ["layer2_cls", "layer3_patch_mean"]


class World:
    def __init__(self):
        settings = Settings(
            model=FIRST, candidates=K, lora_rank=RANK, lora_alpha=float(RANK), lora_targets=("to_v",), features={"latent": LATENT_KEYS}
        )
        self.settings, self.trainer = settings, Trainer(settings, torch.float64)
        self.dino = Dinov2Model.from_pretrained(DINOV2, attn_implementation="eager").double().eval().requires_grad_(False)

    def features(self, x, dino, teacher, text):
        found = {key: value for (_, key), value in self.trainer.feature(x).items()}
        if teacher:
            found["mid_block"] = self.teacher(x, text)
        if dino:
            seen = pixels(self.trainer.vae, x, 56, True, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            hidden = self.dino(seen, output_hidden_states=True).hidden_states
            found.update({key: vit_feature(hidden, key) for key in DINO_KEYS})
        return found

    def teacher(self, x, text):
        kept = []
        hook = self.trainer.unet.mid_block.register_forward_hook(lambda m, i, o: kept.append(o))
        self.trainer.unet.disable_adapters()
        self.trainer.unet(x, 100, text)
        self.trainer.unet.enable_adapters()
        hook.remove()
        return F.avg_pool2d(kept[0], 4, 4).flatten(1)[:, None]

    def encode(self, pair, key):
        latents = []
        for name in pair[key] if isinstance(pair[key], list) else [pair[key]]:
            picture = torch.tensor(np.asarray(Image.open(os.path.join(OUT, name)).convert("RGB"))).double().permute(2, 0, 1)[None]
            by = SIDE / min(picture.shape[-2:])
            size = [round(s * by) for s in picture.shape[-2:]]
            picture = F.interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
            top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
            picture = picture[..., top : top + SIDE, left : left + SIDE] / 127.5 - 1
            vae = self.trainer.vae
            latents.append(vae.encode(picture).latent_dist.mode() * vae.config.scaling_factor)
        return torch.cat(latents)


def drift_loss(x, reference, best, worst):
    """A loss with the closed-form gradient of preference and reference. x, reference [N,D]."""
    _, gradient = drift_gradient(x.detach(), best, worst, 3000.0, 3000.0, RADII)
    loss, more = drift_gradient(x.detach(), reference, x.detach(), 3000.0, 3000.0, RADII, mask=True)
    return (x * (gradient + LAMBDA * more)).sum()


def flat(x):
    return x.reshape(-1, x.shape[-1])


def spread(features, reference, anchors_of, moving):
    total = 0.0
    for key, value in features.items():
        best, worst = anchors_of(key)
        total = total + drift_loss(flat(value[moving]), flat(reference[key][moving]), flat(best), flat(worst))
    return total


def z_score(x):
    return (x - x.mean()) / x.std(unbiased=False).clamp_min(1e-6)


def distance_scores(features, good, bad, mode):
    scores = []
    for key, value in features.items():
        x, p, m = (v.detach().flatten(1) for v in (value, good[key], bad[key]))
        if mode == "cosine":
            unit = lambda v: v / v.norm(dim=1, keepdim=True).clamp_min(1e-6)
            near = lambda t: (unit(x) @ unit(t).T).mean(1).softmax(0)
            scores.append(near(p) - near(m))
            continue
        d_pos, d_neg = torch.cdist(x, p).mean(1), torch.cdist(x, m).mean(1)
        scores.append(z_score(d_neg - d_pos) if mode == "margin" else z_score(d_neg) - z_score(d_pos))
    return torch.stack(scores).mean(0)


def run_case(world, name, prompt, pair, z, text, scores):
    t = world.trainer
    x, ref = one_step(t.unet, z, text), t.base(z, text)
    if name in ("draft", "vggflow"):
        return gradient_method(world, name, x, ref), None
    dino, teacher = name in ("aside", "offline"), name == "aside"
    features = world.features(x, dino, teacher, text)
    with torch.no_grad():
        reference = world.features(ref, dino, teacher, text)
        good, bad = (world.features(world.encode(pair, k), dino, False, text) for k in ("chosen", "rejected"))
    everyone = list(range(K))
    if name == "offline":
        return spread(features, reference, lambda key: (good[key], bad[key]), everyone), None
    if name != "aside":
        scores = distance_scores(features, good, bad, name.split("-")[0])
    order = scores.argsort(descending=True, stable=True).tolist()
    best, worst = order[:POSITIVES], order[-NEGATIVES:]
    rows = lambda key, picked: features[key].detach()[picked]
    anchors_of = lambda key: (rows(key, best), rows(key, worst))
    if name == "separate-anchors":
        anchors_of = lambda key: (torch.cat([rows(key, best), good[key]]), torch.cat([rows(key, worst), bad[key]]))
    moving = everyone if name == "aside" else sorted([i for i in order[: (K + 1) // 2] if i not in worst], key=order.index)
    return spread(features, reference, anchors_of, moving), (None if name == "aside" else scores)


def reward(image):
    """[N,3,H,W] in [-1,1] -> [N]; the test in C computes the same."""
    c, y, x = (torch.arange(n).double() for n in image.shape[1:])
    weight = torch.sin(0.9 * c[:, None, None] + 0.13 * y[:, None] - 0.21 * x)
    return 20 * (image * weight - 0.25 * image**2).flatten(1).mean(1)


def gradient_method(world, name, x, ref):
    vae = world.trainer.vae
    decode = lambda v: vae.decode(v / vae.config.scaling_factor).sample.clamp(-1, 1)
    if name == "draft":
        scores = reward(decode(x))
        return -1.5 * scores.mean() - 0.3 * scores.std(unbiased=False) + 0.2 * ((x - ref) ** 2).mean()
    leaf = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(reward(decode(leaf)).sum(), leaf)
    norm = g.flatten(1).norm(dim=1).clamp_min(1e-8)
    print("norms of the reward's gradient:", norm.tolist())
    g = g * (norm.clamp_max(VGG["threshold"]) / norm)[:, None, None, None]
    return ((x - (ref + VGG["scale"] * g)) ** 2).flatten(1).mean(1).mean() + 0.1 * ((x - ref) ** 2).mean()


def full_gradient(world, noise, texts, out):
    """DRaFT's gradient with respect to every weight of the UNet, of each tensor its norm and its product with sin(0.37 i)."""
    unet = UNet2DConditionModel.from_pretrained(FIRST, subfolder="unet").double().eval()
    vae = world.trainer.vae
    for i in range(2):
        x = one_step(unet, noise[i].double(), texts[i : i + 1].expand(K, -1, -1))
        scores = reward(vae.decode(x / vae.config.scaling_factor).sample.clamp(-1, 1))
        ((-1.5 * scores.mean() - 0.3 * scores.std(unbiased=False)) / 2).backward()
    for name, p in unet.named_parameters():
        g = p.grad.flatten()
        probe = torch.sin(0.37 * torch.arange(len(g)).double())
        out["full." + name] = torch.stack([g.norm(), (g * probe).sum()])


VGG = dict(threshold=0.2, scale=50.0)
CASES = ["aside", "offline", "margin", "separate-anchors", "cosine", "draft", "vggflow"]


def write_pictures(prompts):
    draw = np.random.default_rng(4)
    pairs = []
    for i, prompt in enumerate(prompts):
        sizes = {"chosen": [(80, 96), (64, 64)][: 2 - i], "rejected": [(71, 64)]}
        pair = {"prompt": prompt["prompt"]}
        for side, shapes in sizes.items():
            names = []
            for k, (h, w) in enumerate(shapes):
                small = Image.fromarray(draw.integers(0, 256, (6, 7, 3), dtype=np.uint8))
                name = f"{side}-{i}-{k}.png"
                small.resize((w, h), Image.BICUBIC).save(os.path.join(OUT, name))
                names.append(name)
            pair[side] = names if len(names) > 1 else names[0]
        pairs.append(pair)
    with open(os.path.join(OUT, "pairs.jsonl"), "w") as f:
        f.writelines(json.dumps(p) + "\n" for p in pairs)
    return pairs


def main():
    os.makedirs(OUT, exist_ok=True)
    world = World()
    t = world.trainer
    start = {k: (v * 3 if ".lora_B." in k else v).half().float() for k, v in initial_lora(t, 21).items()}
    t.load_lora(dict(start))
    draw = torch.Generator().manual_seed(22)
    noise = torch.randn(2, K, 4, 16, 16, generator=draw).half().float()
    scores = torch.randn(2, K, generator=draw).float()
    prompts = read_jsonl(os.path.join(ROOT, "tests", "golden", "updates", "prompts.jsonl"))[:2]
    pairs = write_pictures(prompts)
    texts = t.encode([m["prompt"] for m in prompts])
    out = {"scores": scores, "noise": noise[None]}
    for name in CASES:
        t.optimizer.zero_grad()
        total, found = 0.0, []
        for i in range(2):
            loss, distance = run_case(
                world, name, prompts[i], pairs[i], noise[i].double(), texts[i : i + 1].expand(K, -1, -1), scores[i].double()
            )
            (loss / 2).backward()
            total += loss.item() / 2
            found.append(distance)
        gradient = t.lora({n: p.grad for n, p in t.parameters.items()})
        out.update({f"grad.{name}.{k}": v for k, v in gradient.items()})
        if found[0] is not None:
            out[f"distance.{name}"] = torch.stack(found)
        out[f"{name}.loss"] = torch.tensor([total])
        print(name, "loss", total, "norm", sum(float(g.norm()) ** 2 for g in gradient.values()) ** 0.5)
    full_gradient(world, noise, texts, out)
    save_file({k: v.detach().float().contiguous() for k, v in out.items()}, OUT + "/modes.safetensors")
    save_file({k: v.half().contiguous() for k, v in start.items()}, OUT + "/lora_init.safetensors")
    write_adapter_config(world.settings, OUT)
    for name in sorted(os.listdir(OUT)):
        os.chmod(f"{OUT}/{name}", 0o644)
        print(name, os.path.getsize(f"{OUT}/{name}") // 1000, "kB")


if __name__ == "__main__":
    main()
