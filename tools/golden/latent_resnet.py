"""Golden cases of the latent feature network: the two shipped networks and a random one in the published layout.

The published layout differs from the shipped one in three places: more blocks per stage with maps inside a stage
("layer<n>_blk<b>"), as many norm groups as divide the channels (at most 32), and a standard deviation of
sqrt(variance + 1e-6) instead of sqrt(max(variance, 1e-6)).
"""

import json
import re

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from common import ASSETS, GOLDEN, normal, randomize, write_io, write_weights

SHIPPED_KEYS = (
    "latent_mean_8 latent_std_8 latent_mean latent conv1_mean layer1_mean_4 layer1_std_4 layer2 layer3_mean_2 layer3_std_2 "
    "layer4_mean layer4_std"
).split()
RANDOM_KEYS = (
    "latent latent_std_4 latent_mean conv1 conv1_std_2 layer1 layer1_mean layer1_blk1_std layer1_blk0 layer2_blk2 "
    "layer2_blk0_mean_4 layer2_blk1_std_4 layer2_std_2 layer3 layer3_mean layer3_std_2 layer3_blk0_mean"
).split()
RANDOM_CONFIG = {
    "in_channels": 4,
    "layers": [2, 3, 1],
    "width": [16, 24, 64],
    "sample_size": 16,
    "norm_eps": 1e-5,
    "std_eps": 1e-6,
    "std_floor": False,
}


class Network(torch.nn.Module):
    """Holds parameters under their file names; `maps` is the whole computation."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = {}
        channels = config["in_channels"]
        first = config["width"][0]
        self.add("encoder.conv1.weight", first, channels, 3, 3)
        self.add_norm("encoder.gn1", first)
        channels = first
        for stage, (width, blocks) in enumerate(zip(config["width"], config["layers"])):
            for block in range(blocks):
                name = f"encoder.stages_{stage}.layers_{block}"
                self.add(name + ".conv1.weight", width, channels, 3, 3)
                self.add_norm(name + ".gn1", width)
                self.add(name + ".conv2.weight", width, width, 3, 3)
                self.add_norm(name + ".gn2", width)
                if channels != width or (stage > 0 and block == 0):
                    self.add(name + ".proj_conv.weight", width, channels, 1, 1)
                    self.add_norm(name + ".proj_gn", width)
                channels = width
            self.add_norm(f"encoder.layer{stage + 1}_norm", width)

    def add(self, name, *shape):
        parent = self
        *folders, leaf = name.split(".")
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, torch.nn.Module())
            parent = parent._modules[folder]
        parent.register_parameter(leaf, torch.nn.Parameter(torch.zeros(shape)))

    def add_norm(self, name, channels):
        self.add(name + ".weight", channels)
        self.add(name + ".bias", channels)

    def groups(self, channels):
        stated = self.config.get("groups", {})
        return stated.get(str(channels)) or next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)

    def maps(self, latents):
        weight = dict(self.named_parameters())

        def norm(x, name):
            return F.group_norm(
                x, self.groups(x.shape[1]), weight[name + ".weight"], weight[name + ".bias"], self.config["norm_eps"]
            )

        def conv(x, name, stride=1):
            w = weight[name + ".weight"]
            return F.conv2d(x, w, None, stride, w.shape[-1] // 2)

        x = norm(conv(latents, "encoder.conv1"), "encoder.gn1").relu()
        maps = {"latent": latents, "conv1": x}
        for stage, blocks in enumerate(self.config["layers"]):
            for block in range(blocks):
                name = f"encoder.stages_{stage}.layers_{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                y = norm(conv(x, name + ".conv1", stride), name + ".gn1").relu()
                y = norm(conv(y, name + ".conv2"), name + ".gn2")
                if name + ".proj_conv.weight" in weight:
                    x = norm(conv(x, name + ".proj_conv", stride), name + ".proj_gn")
                x = (x + y).relu()
                maps[f"layer{stage + 1}_blk{block}"] = x
            x = norm(x, f"encoder.layer{stage + 1}_norm")
            maps[f"layer{stage + 1}"] = x
        return maps

    def feature(self, maps, key):
        """[N, tokens, D] of "<map>", "<map>_mean[_<q>]" or "<map>_std[_<q>]"."""
        name, statistic, cell = re.fullmatch(r"(.+?)(?:_(mean|std)(?:_(\d+))?)?", key).groups()
        x = maps[name]
        if statistic:
            size = int(cell) if cell else x.shape[-2:]
            mean = F.avg_pool2d(x, size)
            if statistic == "std":
                variance, eps = F.avg_pool2d(x * x, size) - mean * mean, self.config["std_eps"]
                floor = self.config.get("std_floor", True)
                x = (variance.clamp_min(eps) if floor else variance.clamp_min(0) + eps).sqrt()
            else:
                x = mean
        return x.flatten(2).transpose(1, 2)


def run(network, case, seed, height, width, keys, scale=1.0):
    latents = (scale * normal(seed, 2, network.config["in_channels"], height, width)).float().double()
    maps = network.maps(latents)
    write_io(case, {"latents": latents}, {key: network.feature(maps, key) for key in keys})


def write_published(net):
    """The random network in both published file layouts: torch names under a wrapper, and converted kernels."""
    folder = f"{GOLDEN}/resnet_random"
    state = {k: v.detach().half() for k, v in net.state_dict().items()}
    extra = {"decoder.head.weight": torch.zeros(2, 2), "classifier.bias": torch.zeros(2)}
    wrapped = {"module._orig_mod." + k: v for k, v in state.items()} | extra
    metadata = {"model_config": {"layers": net.config["layers"], "in_channels": 4}}
    torch.save({"state_dict": wrapped, "metadata": metadata, "epoch": 3}, f"{folder}/torch.pth")
    kernels = {}
    for name, v in state.items():
        if v.dim() == 4:
            kernels[name.replace(".weight", ".kernel")] = v.permute(2, 3, 1, 0).contiguous()
        else:
            kernels[name.replace(".weight", ".scale")] = v
    torch.save({"model_state_dict": kernels | extra, "metadata": metadata}, f"{folder}/kernels.pth")


if __name__ == "__main__":
    with torch.no_grad():
        for number, name in enumerate(("tiny-mae", "tiny-dae")):
            with open(f"{ASSETS}/{name}/config.json") as f:
                net = Network(json.load(f))
            net.load_state_dict(load_file(f"{ASSETS}/{name}/model.safetensors"))
            run(net.double(), "resnet_" + name.replace("-", "_"), 30 + number, 16, 16, SHIPPED_KEYS)
        net = randomize(Network(RANDOM_CONFIG), 400)
        write_weights("resnet_random", net, RANDOM_CONFIG)
        write_published(net)
        run(net, "resnet_random", 401, 16, 16, RANDOM_KEYS, 0.7)
