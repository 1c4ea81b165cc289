"""One picture with stable-diffusion.cpp, to stand beside `drpo sample --json`.

    peer_sdcpp.py FOLDER [--side 512] [--threads 1] [--type default|f32] [--fast]

FOLDER: a diffusers folder, such as `drpo bench step --shape sd-turbo` makes. One Euler step without guidance, as SD-Turbo is used;
weights as stored, or with --type f32 as float32; --fast: its flash attention and direct convolutions. Needs the Python package
stable-diffusion-cpp-python, which pip compiles (minutes to an hour). Seconds count from the start of the process. Prints one JSON line.
"""

import argparse
import json
import os
import resource
import time


def process_seconds():
    with open("/proc/self/stat") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--side", type=int, default=512)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--type", default="default")
parser.add_argument("--fast", action="store_true")
parser.add_argument("--out", default="")
o = parser.parse_args()

from stable_diffusion_cpp import StableDiffusion

fast = dict(flash_attn=True, diffusion_flash_attn=True, diffusion_conv_direct=True, vae_conv_direct=True) if o.fast else {}
network = StableDiffusion(model_path=o.folder, n_threads=o.threads, wtype=o.type, vae_decode_only=True, verbose=bool(o.out), **fast)
opened = process_seconds()
pictures = network.generate_image(prompt="a red fox", width=o.side, height=o.side, cfg_scale=1.0, sample_steps=1, sample_method="euler", seed=42)
done = process_seconds()
if o.out:
    pictures[0].save(o.out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"opened_seconds": round(opened, 2), "seconds": round(done, 2), "peak_bytes": peak, "size": pictures[0].size}))
