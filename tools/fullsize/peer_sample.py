"""One picture with the stock pipeline of diffusers in float32: seconds and peak memory, to stand beside `drpo sample`.

    python3 peer_sample.py FOLDER [PIXELS]

Weights are read from the same folder; text encoders, UNet and VAE stay in memory together, as the pipeline holds them."""

import json
import os
import resource
import sys
import time

import torch
from diffusers import DiffusionPipeline

folder, side = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 512
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
start = time.time()
pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
loaded = time.time()
picture = pipe("a red fox", num_inference_steps=1, guidance_scale=0.0, height=side, width=side, generator=torch.Generator().manual_seed(42)).images[0]
done = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds_to_load": round(loaded - start, 1), "seconds_to_draw": round(done - loaded, 1), "peak_gib": round(peak, 3), "size": picture.size}))
