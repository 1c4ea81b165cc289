"""Likes warm colours: mean red minus mean blue over what stands out from the background.

    drpo train --reward 'exec:python3 examples/rewards/warm.py?images=rgb' ...
"""
import base64, json, sys
import numpy as np

print(json.dumps({"status": "ready"}), flush=True)
for line in sys.stdin:
    q = json.loads(line)
    images = np.frombuffer(base64.b64decode(q["rgb_b64"]), np.uint8).reshape(q["count"], q["height"], q["width"], 3) / 255
    scores = []
    for image in images:
        border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
        seen = image[np.abs(image - np.median(border, 0)).max(-1) > 0.2]
        scores.append(float(seen[:, 0].mean() - seen[:, 2].mean()) if len(seen) >= 20 else -1.0)
    print(json.dumps({"scores": scores}), flush=True)
