"""One picture with the stock pipeline of diffusers in float32: seconds and peak memory, to stand beside `drpo sample --json`.

    python3 peer_sample.py FOLDER [PIXELS]

Weights are read from the same folder; text encoders, UNet and VAE stay in memory together, as the pipeline holds them. Seconds count
from the start of the process: until the UNet is called, with the prompt encoded, and until the picture is there."""

import json
import os
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import torch
from diffusers import DiffusionPipeline
from tiny.common import process_seconds

folder, side = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 512
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
imported = process_seconds()
pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
loaded, called = process_seconds(), []
pipe.unet.register_forward_pre_hook(lambda *_: called.append(process_seconds()))
picture = pipe("a red fox", num_inference_steps=1, guidance_scale=0.0, height=side, width=side, generator=torch.Generator().manual_seed(42)).images[0]
done = process_seconds()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
seconds = {"imports_seconds": imported, "opened_seconds": loaded, "start_seconds": called[0], "seconds": done}
print(json.dumps({**{k: round(v, 2) for k, v in seconds.items()}, "peak_bytes": peak, "size": picture.size}))
