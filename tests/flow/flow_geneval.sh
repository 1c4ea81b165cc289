#!/bin/sh
# The GenEval benchmark with the embedded generator and a made-up detector: the benchmark's folder and rows, sums that
# agree with them, and a run that was stopped ends like one that was not.
. "$(dirname "$0")/common.sh"
OMP_NUM_THREADS=1
export OMP_NUM_THREADS
detector="geneval:python3 $SOURCE_DIR/tests/step/fake_detector.py guess?images=rgb"
geneval() { expect 0 "$DRPO" geneval --threads 1 --limit 12 "$@"; }

geneval --reward "$detector" --out whole
cp out table.txt
[ "$(find whole -name '*.png' | wc -l)" -eq 48 ] || broken "not four pictures of twelve prompts"
cmp -s whole/00080/samples/0000.png whole/00080/samples/0001.png && broken "two pictures of a prompt are equal"
sed -n 81p "$DRPO_ASSETS/prompts/geneval.jsonl" | tr -d '\n' | cmp -s - whole/00080/metadata.jsonl ||
    broken "metadata: $(cat whole/00080/metadata.jsonl)"

python3 - <<'END_PYTHON' || broken "rows and sums do not agree"
import collections, json
rows = [json.loads(line) for line in open("whole/results.jsonl")]
assert len(rows) == 48 and len({r["filename"] for r in rows}) == 48
tags = collections.defaultdict(list)
for r in rows:
    assert list(r) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    wanted, found = json.loads(r["metadata"]), json.loads(r["details"])
    assert wanted["prompt"] == r["prompt"] and wanted["tag"] == r["tag"]
    assert r["correct"] == (r["reason"] == "")
    for clause in wanted["include"]:
        boxes = found.get(clause["class"], [])
        assert all(len(box) == 5 and box[4] == 0.95 for box in boxes)
        assert len(boxes) >= clause["count"] or not r["correct"]
    tags[r["tag"]].append(r["correct"])
assert len(tags) == 6 and any(r["correct"] for r in rows) and not all(r["correct"] for r in rows)
summary = json.load(open("whole/summary.json"))
metrics = {name: m["base"] for name, m in summary["metrics"].items()}
for tag, verdicts in tags.items():
    assert abs(metrics[tag] - sum(verdicts) / len(verdicts)) < 1e-12, (tag, metrics)
assert abs(metrics["overall"] - sum(metrics[t] for t in tags) / 6) < 1e-12
assert summary["images_correct"] == sum(r["correct"] for r in rows)
# what the detector cannot place stands beside the other object
assert all("left of target" in r["reason"] or "right of target" in r["reason"] or "found 0" in r["reason"]
           for r in rows if r["tag"] == "position" and not r["correct"])
END_PYTHON

# pictures first, verdicts later; some of both lost on the way
geneval --out parts --limit 5
[ -e parts/results.jsonl ] && broken "verdicts without a judge"
geneval --reward "$detector" --out parts --limit 5
rm parts/00000/samples/0002.png
head -c 3000 parts/results.jsonl >cut && cp cut parts/results.jsonl
geneval --reward "$detector" --out parts
cmp -s out table.txt || { diff out table.txt >&2; broken "a run in parts counts differently"; }
sed 's/parts/whole/' parts/results.jsonl | sort >a && sort whole/results.jsonl >b
cmp -s a b || broken "a run in parts has other rows"
cmp -s parts/00000/samples/0002.png whole/00000/samples/0002.png || broken "a picture drawn again differs"

# a folder of other pictures, other verdicts, prompts of others
expect 2 "$DRPO" geneval --threads 1 --limit 12 --out parts --seed 7
grep -q 'another seed' err || broken "$(cat err)"
expect 2 "$DRPO" geneval --threads 1 --limit 12 --out parts --reward scene-correct
grep -q 'was judged by' err || broken "$(cat err)"
geneval --prompts prompts/test.jsonl --reward scene-correct --out scene
grep -q '^overall' out || broken "$(cat out)"
expect 2 "$DRPO" geneval --threads 1 --prompts prompts/test.jsonl --reward "$detector" --out stars
grep -q 'unknown class' err || broken "$(cat err)"
exit 0
