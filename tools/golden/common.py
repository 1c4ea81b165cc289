"""Shared by the golden scripts: seeded random weights, and writing one case.

A case is a folder tests/golden/<case>/ with config.json and model.safetensors (the network, under the names of diffusers or
transformers; left out when the case uses a shipped checkpoint) and io.safetensors (input.<name>, output.<name>).
Weights are rounded to float16 and stored so; the networks then run in float64, so that a stored output has no error but its own
rounding to float32.
"""

import json
import os

import torch
from safetensors.torch import save_file

from random_models import randomize  # noqa: F401 (the scripts take it from here)

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
GOLDEN = os.path.join(ROOT, "tests", "golden")
ASSETS = os.path.join(ROOT, "assets")
FIRST = os.path.join(ROOT, "tests", "fixtures", "tiny-turbo")  # the first embedded generator


def normal(seed, *shape):
    """Unit normal values that float32 holds exactly, as float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def write_weights(case, network, config):
    folder = os.path.join(GOLDEN, case)
    os.makedirs(folder, exist_ok=True)
    tensors = {k: v.half().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    save_file(tensors, os.path.join(folder, "model.safetensors"))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1, sort_keys=True)
        f.write("\n")


def write_io(case, inputs, outputs):
    folder = os.path.join(GOLDEN, case)
    os.makedirs(folder, exist_ok=True)
    tensors = {}
    for kind, group in (("input", inputs), ("output", outputs)):
        for name, value in group.items():
            value = value.float() if value.is_floating_point() else value.int()
            tensors[f"{kind}.{name}"] = value.contiguous()
            assert torch.isfinite(value.float()).all(), (case, name)
    save_file(tensors, os.path.join(folder, "io.safetensors"))
    norms = {k: round(float(v.float().pow(2).mean().sqrt()), 4) for k, v in tensors.items()}
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    print(f"{case}: {size // 1000} kB, root mean squares {norms}")
