#!/bin/sh
# 2N updates straight are the same bytes as N, resume, N: adapter, moments, records.
. "$(dirname "$0")/common.sh"

expect 0 train --out straight --steps 4 --checkpoint-every 2 --eval-every 2 --lora-dropout 0.2
[ "$(wc -l <straight/metrics.jsonl)" -eq 4 ] || broken "metrics.jsonl has not one line per update"
[ -s straight/eval-000002.png ] || broken "no grid at step 2"
[ "$(wc -l <straight/eval.jsonl)" -eq 3 ] || broken "eval.jsonl has not the evaluations at 0, 2 and 4"

expect 0 train --out halves --steps 2 --checkpoint-every 2 --eval-every 2 --lora-dropout 0.2
grep -q '"lora_dropout": 0.2' halves/final/adapter_config.json || broken "adapter_config.json does not know the dropout"
expect 0 "$DRPO" train --resume latest --out halves --steps 4 --threads 1
same_run straight halves

# from a given checkpoint; what came after it is done again
expect 0 "$DRPO" train --resume straight/checkpoint-2 --threads 1
same_run halves straight

# an evaluation that failed after its update is made up for
cat >held.py <<'END_PYTHON'
import json, os, sys
for line in sys.stdin:
    if os.path.exists("lost/metrics.jsonl") and len(open("lost/metrics.jsonl").readlines()) == 2 and not os.path.exists("mended"):
        sys.exit(3)
    print(json.dumps({"scores": [0.5] * json.loads(line)["count"]}), flush=True)
END_PYTHON
held="exec:python3 held.py?retries=0&name=held"
expect 0 train --out found --steps 4 --checkpoint-every 2 --eval-every 2 --eval-reward "$held"
expect 1 train --out lost --steps 4 --checkpoint-every 2 --eval-every 2 --eval-reward "$held"
[ "$(wc -l <lost/eval.jsonl)" -eq 1 ] || broken "the evaluation at step 2 did not fail: $(cat lost/eval.jsonl)"
touch mended
expect 0 "$DRPO" train --resume latest --out lost --threads 1
same_run found lost

# other options than the run's are refused, and nothing is touched
cp halves/metrics.jsonl before.jsonl
expect 2 "$DRPO" train --resume latest --out halves --steps 6 --lr 0.5
grep -q -- "--lr" err || broken "the changed option is not named: $(cat err)"
cmp -s before.jsonl halves/metrics.jsonl || broken "a refused resume changed the run"

# a run is not overwritten by accident
expect 2 train --out halves --steps 1
expect 0 train --out halves --steps 1 --overwrite --eval-every 0
[ ! -e halves/checkpoint-4 ] || broken "--overwrite left an old checkpoint"

# --keep
expect 0 train --out kept --steps 4 --checkpoint-every 1 --keep 2 --eval-every 0
[ "$(ls -d kept/checkpoint-* | wc -l)" -eq 2 ] || broken "--keep 2 kept $(ls kept)"

# a damaged checkpoint is refused by name
head -c 2000 kept/checkpoint-4/adapter_model.safetensors >cut && cp cut kept/checkpoint-4/adapter_model.safetensors
expect 2 "$DRPO" train --resume latest --out kept --steps 5 --threads 1
grep -q "adapter_model.safetensors" err || broken "the damaged file is not named: $(cat err)"
