#!/bin/sh
# What a run chose follows from the scores it recorded: with rankings, with pools, after a resume; a changed record is found.
. "$(dirname "$0")/common.sh"
OMP_NUM_THREADS=1
export OMP_NUM_THREADS
pools="--candidates 6 --positives 2 --negatives 2 --prompts-per-step 2 --pools --rounds 3 --reward scene-correct --eval-every 0"

expect 0 train $pools --steps 4 --checkpoint-every 2 --out whole
expect 0 train $pools --steps 2 --checkpoint-every 2 --out parts
expect 0 "$DRPO" train --resume latest --out parts --steps 4
cmp -s whole/candidates.jsonl parts/candidates.jsonl || broken "a resumed run has other candidates"
cmp -s whole/final/adapter_model.safetensors parts/final/adapter_model.safetensors || broken "a resumed run differs"
[ "$(wc -l <whole/candidates.jsonl)" -eq 8 ] || broken "not a line per prompt"
expect 0 "$DRPO" replay whole
grep -q '8 prompts of 4 updates' out || broken "$(cat out)"
python3 "$SOURCE_DIR/tools/golden/pools.py" whole >python.txt 2>&1 || broken "$(cat python.txt)"

# an ensemble that is ranked
expect 0 train --candidates 6 --positives 2 --negatives 2 --steps 3 --eval-every 0 --out ranked --reward scene --reward scene-correct@0.5
expect 0 "$DRPO" replay ranked

# one exchanged pair of scores
python3 - <<'END_PYTHON'
import json
lines = [json.loads(line) for line in open("ranked/candidates.jsonl")]
k = next(k for k, line in enumerate(lines) if "positives" in line)
best, worst = lines[k]["positives"][0], lines[k]["negatives"][-1]
for scores in lines[k]["scores"].values():
    scores[best], scores[worst] = scores[worst], scores[best]
open("ranked/candidates.jsonl", "w").write("".join(json.dumps(line) + "\n" for line in lines))
open("where", "w").write(f"candidates.jsonl:{k + 1}: update {lines[k]['step']}, prompt {lines[k]['prompt']}")
END_PYTHON
expect 1 "$DRPO" replay ranked
grep -q "$(cat where)" err || broken "$(cat err)"

# nothing that could be checked
mkdir empty && cp ranked/config.yaml empty/ && : >empty/candidates.jsonl
expect 2 "$DRPO" replay empty
grep -q 'holds no scored prompt' err || broken "$(cat err)"

# what makes no sense
expect 2 "$DRPO" replay nowhere
expect 2 train --pools --reward scene --reward scene-correct --out x
expect 2 train --pools --method grpo --out x
expect 2 train --rounds 2 --out x
grep -q 'belongs to --pools' err || broken "$(cat err)"
[ -e x ] && broken "a refused run left a folder"
exit 0
