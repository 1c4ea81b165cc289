"""Likes red pictures. A reward is any function of pictures; the rest are ten lines that read and answer.

    drpo train --reward 'exec:python3 examples/rewards/redness.py?images=rgb' ...
"""
import base64, json, sys

def redness(rgb):  # the bytes of one picture: red, green, blue, red, ...
    return (sum(rgb[0::3]) - (sum(rgb[1::3]) + sum(rgb[2::3])) / 2) / (255 * (len(rgb) // 3))

for line in sys.stdin:
    q = json.loads(line)
    rgb = base64.b64decode(q["rgb_b64"])
    size = len(rgb) // q["count"]
    print(json.dumps({"scores": [redness(rgb[i : i + size]) for i in range(0, len(rgb), size)]}), flush=True)
