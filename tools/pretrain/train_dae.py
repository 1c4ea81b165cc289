"""The denoising feature network: clean latents from noisy, partly masked ones, and the words of the caption.

  python3 train_dae.py OUT [minutes] [weight of the words] [largest mask share] [largest noise]

The shipped tiny-dae: 6 minutes on one thread, words 1, mask 0.5, noise 0.7. Needs the pairs of `pretrain.py pairs`.
"""

import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from tiny.common import CHANNELS_LAST, MODEL, WORK, keep_memory
from tiny.features import LatentResNet, MAEDecoder

BATCH, LR, VALIDATION = 64, 2e-3, 256


def word_labels(ids):
    """[pairs, words] 1 where the caption has the word."""
    with open(os.path.join(MODEL, "tokenizer", "vocab.json")) as f:
        size = len(json.load(f))
    used = torch.unique(ids)
    used = used[(used > 0) & (used < size - 2)]
    column = torch.full((size,), -1, dtype=torch.long)
    column[used] = torch.arange(len(used))
    labels = torch.zeros(len(ids), len(used))
    for row, tokens in zip(labels, column[ids]):
        row[tokens[tokens >= 0]] = 1
    return labels


def corrupt(latents, mask_share, noise):
    n = len(latents)
    mask = (torch.rand(n, 1, 8, 8) < torch.rand(n, 1, 1, 1) * mask_share).float()
    mask = mask.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return (latents + torch.rand(n, 1, 1, 1) * noise * torch.randn_like(latents)) * (1 - mask)


def train(out, minutes=6.0, words=1.0, mask_share=0.5, noise=0.7):
    pairs = torch.load(WORK + "/pairs0.pt")
    latents, labels = pairs["x"], word_labels(pairs["ids"].long())
    torch.manual_seed(0)
    network = LatentResNet().to(memory_format=CHANNELS_LAST)
    width = network.width[-1]
    decoder, classifier = MAEDecoder(width), torch.nn.Linear(2 * width, labels.shape[1])
    parameters = [p for part in (network, decoder, classifier) for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, LR, weight_decay=1e-2)
    start, step = time.time(), 0
    while (done := (time.time() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = LR * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        rows = torch.randint(VALIDATION, len(latents), (BATCH,))
        clean = latents[rows].float().contiguous(memory_format=CHANNELS_LAST)
        top = network.maps(corrupt(clean, mask_share, noise))["layer4"]
        reconstruction = ((decoder(top) - clean) ** 2).mean()
        logits = classifier(torch.cat([top.mean((2, 3)), top.std((2, 3))], 1))
        caption = F.binary_cross_entropy_with_logits(logits, labels[rows])
        optimizer.zero_grad()
        (reconstruction + words * caption).backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(
                f"{step} reconstruction {reconstruction.item():.4f} words {caption.item():.4f} t {time.time() - start:.0f}",
                flush=True,
            )
    network.save(out)


if __name__ == "__main__":
    keep_memory()
    torch.set_num_threads(1)
    train(sys.argv[1], *map(float, sys.argv[2:]))
