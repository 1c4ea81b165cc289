"""A detector for tests: sees rectangles in which every pixel is (class + 1, 250 * score, color) on a black ground.

    fake_detector.py MODE      lines of JSON on stdin and stdout; needs ?images=rgb unless MODE is released

MODE: objects (with colors and masks), plain (neither), or a fault: class, score, box, color, mask, count; guess finds
what the prompt asks for, beside one another, in every picture whose bytes add up to an even number; released speaks as
the benchmark's own worker does: it is told how to start, waits, gets PNG and answers with verdicts.
"""
import base64, json, sys

mode = sys.argv[1]
COLORS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]


def runs(inside, width, height):
    counts, last = [0], 0
    for x in range(width):
        for y in range(height):
            value = int((x, y) in inside)
            if value != last:
                counts.append(0)
            counts[-1] += 1
            last = value
    return {"size": [height, width], "counts": counts}


def detect(rgb, width, height):
    seen = {}
    for y in range(height):
        for x in range(width):
            pixel = tuple(rgb[3 * (y * width + x):][:3])
            if 0 < pixel[0] <= 80 and pixel[2] < 10:
                seen.setdefault(pixel, []).append((x, y))
    objects = []
    for (kind, score, color), where in seen.items():
        xs, ys = [x for x, _ in where], [y for _, y in where]
        found = {"class": kind - 1, "score": score / 250, "box": [min(xs), min(ys), max(xs) + 1, max(ys) + 1]}
        if mode != "plain":
            found.update(color=COLORS[color], mask=runs(set(where), width, height))
        objects.append(found)
    return objects


def guess(rgb, metadata):
    objects = []
    for clause in metadata["include"] if sum(rgb) % 2 == 0 else []:
        for _ in range(clause["count"]):
            x = 20 * len(objects)
            objects.append({"class": clause["class"], "score": 0.95, "box": [x, 0, x + 10, 10],
                            "color": clause.get("color")})
    return objects


def answer(q):
    size = 3 * q["width"] * q["height"]
    rgb = base64.b64decode(q["rgb_b64"])
    pictures = [rgb[k * size:(k + 1) * size] for k in range(q["count"])]
    if mode == "guess":
        return {"detections": [guess(p, q["metadata"]) for p in pictures]}
    lists = [detect(p, q["width"], q["height"]) for p in pictures]
    broken = next((o for one in lists for o in one), {})
    if mode == "class": broken["class"] = "unicorn"
    if mode == "score": broken["score"] = "high"
    if mode == "box": broken["box"].pop()
    if mode == "color": broken["color"] = "mauve"
    if mode == "mask": broken["mask"]["counts"][-1] += 1
    if mode == "count": lists.pop()
    return {"detections": lists}


def released(q):
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in q["images_b64"])
    assert q["metadata"]["include"][0]["class"] == "dog"
    return {"scores": [float(k % 2) for k in range(len(q["images_b64"]))]}


if mode == "released":
    print("loading the detector", flush=True)
    print(json.dumps({"status": "ready"}), flush=True)
for line in sys.stdin:
    print(json.dumps((released if mode == "released" else answer)(json.loads(line))), flush=True)
