#!/bin/sh
# Learning from given pictures runs in the same loop: resumes to the byte, and mistakes are named before anything starts.
. "$(dirname "$0")/common.sh"

pairs=$SOURCE_DIR/tests/golden/modes/pairs.jsonl

check() {
    expect 0 train --out straight --steps 2 --checkpoint-every 1 --eval-every 0 --overwrite --pairs "$pairs" "$@"
    expect 0 train --out halves --steps 1 --checkpoint-every 1 --eval-every 0 --overwrite --pairs "$pairs" "$@"
    expect 0 "$DRPO" train --resume latest --out halves --steps 2 --threads 1
    cmp -s straight/final/adapter_model.safetensors halves/final/adapter_model.safetensors || broken "$* does not resume exactly"
    cmp -s straight/final/adapter_model.safetensors straight/checkpoint-1/adapter_model.safetensors && broken "$* learns nothing"
    grep -q '"prompts_used": *1' straight/metrics.jsonl || broken "$*: no prompt was used: $(cat straight/metrics.jsonl)"
}

check --mode offline --pair-latents sample
check --mode offline-distance --distance-score separate-zscore --distance-anchors

# evaluations still ask the reward
expect 0 train --out seen --steps 1 --eval-every 1 --mode offline --pairs "$pairs" --eval-prompts prompts/test.jsonl
grep -q '"reward": *null' seen/metrics.jsonl || broken "a reward where nothing is scored: $(cat seen/metrics.jsonl)"
grep "^step 1/1" err | grep -q "reward" && broken "the progress line shows a reward: $(cat err)"
expect 0 "$DRPO" report seen
grep -q "training reward" seen/report.html && broken "the report shows a training reward"
[ -s seen/eval.jsonl ] || broken "nothing was evaluated"

expect 2 train --out x --mode offline
grep -q -- "--pairs" err || broken "pairs that are missing: $(cat err)"
expect 2 train --out x --pairs "$pairs"
grep -q -- "--mode" err || broken "pairs without a mode: $(cat err)"
expect 2 train --out x --mode offline --pairs "$pairs" --method dpo
grep -q -- "--method" err || broken "a mode of another method: $(cat err)"
printf '{"prompt": "a", "chosen": "none.png", "rejected": "none.png"}\n' >lost.jsonl
expect 2 train --out x --mode offline --pairs lost.jsonl
grep -q "none.png" err || broken "a picture that is missing: $(cat err)"
[ ! -e x ] || broken "a refused run left a folder"

# the reward's own gradient: this reward has none
expect 2 train --out x --steps 1 --eval-every 0 --method draft --reward scene-correct
grep -q "no gradient" err || broken "a reward without a gradient: $(cat err)"
