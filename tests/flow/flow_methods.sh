#!/bin/sh
# Other methods and objectives run in the same loop: checkpoints that resume to the byte, options that do not fit refused.
. "$(dirname "$0")/common.sh"

check() {
    expect 0 train --out straight --steps 2 --checkpoint-every 1 --eval-every 0 --overwrite "$@"
    expect 0 train --out halves --steps 1 --checkpoint-every 1 --eval-every 0 --overwrite "$@"
    expect 0 "$DRPO" train --resume latest --out halves --steps 2 --threads 1
    cmp -s straight/final/adapter_model.safetensors halves/final/adapter_model.safetensors || broken "$* does not resume exactly"
    cmp -s straight/final/adapter_model.safetensors straight/checkpoint-1/adapter_model.safetensors && broken "$* learns nothing"
}

check --method dpo
check --method pso
check --method grpo --grpo-anchors 2
grep -q "^neighbour-noise: 0.3" straight/config.yaml || broken "grpo does not bring its noise: $(cat straight/config.yaml)"
check --method draft --reward scene-smooth --draft-std 0.1
check --method vggflow --reward scene-smooth --reward scene-smooth@0.5
check --objective awr-topk --spread-weight --diversity 1 --anchor 0.5 --feature-l2 0.1

expect 2 train --out x --method pso --candidates 5
grep -q "odd" err || broken "an odd number of candidates: $(cat err)"
expect 2 train --out x --method dpo --objective awr
grep -q -- "--objective" err || broken "an objective that is of another method: $(cat err)"
expect 2 train --out x --method grpo --grpo-anchors 9
grep -q -- "--grpo-anchors" err || broken "too many anchors: $(cat err)"
