"""Checkpoints of torch.save in the forms that published weights have, each with its tensors as safetensors."""

import argparse
import collections
import os
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

from common import GOLDEN, normal

FOLDER = os.path.join(GOLDEN, "torch_pickle")


def tensors():
    base = normal(900, 4, 6).float()
    return collections.OrderedDict(
        [
            ("visual.proj", base),
            ("visual.row", base[2]),  # a view into the same storage
            ("visual.turned", base.t()),  # not contiguous
            ("visual.every_other", base[::2, 1::3]),
            ("half", normal(901, 3, 2).half()),
            ("brain", normal(902, 5).bfloat16()),
            ("double", normal(903, 2, 1, 2)),
            ("steps", torch.tensor([3, -4], dtype=torch.int64)),
            ("mask", torch.tensor([True, False, True])),
            ("bytes", torch.tensor([0, 255], dtype=torch.uint8)),
            ("scale", torch.tensor(4.6052)),
            ("none", torch.zeros(0, 3)),
            ("parameter", torch.nn.Parameter(normal(904, 2, 2).float())),
        ]
    )


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors().items()}, os.path.join(FOLDER, "tensors.safetensors"))
    torch.save(tensors(), os.path.join(FOLDER, "plain.pt"))
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    trainer = {
        "epoch": 7,
        "args": argparse.Namespace(lr=1e-4, out=pathlib.PosixPath("x"), names=["a"], many=2**40, low=-3),
        "best": np.float64(0.25),
        "optimizer": optimizer.state_dict(),
        "state_dict": tensors(),
        "ema": network.state_dict(),  # with _metadata
    }
    torch.save(trainer, os.path.join(FOLDER, "trainer.pt"))
    torch.save({"model": {"inner": dict(tensors())}, "model_state_dict": dict(tensors())}, os.path.join(FOLDER, "protocol4.pt"), pickle_protocol=4)
    torch.save(network, os.path.join(FOLDER, "module.pt"))
    torch.save(network.state_dict(), os.path.join(FOLDER, "legacy.pt"), _use_new_zipfile_serialization=False)
    for f in sorted(os.listdir(FOLDER)):
        os.chmod(os.path.join(FOLDER, f), 0o644)
        print(f, os.path.getsize(os.path.join(FOLDER, f)))
