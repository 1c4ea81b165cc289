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
# tau is a quantile of the lengths of the update before alone; checkpoints keep it
vggflow="--method vggflow --reward scene-smooth --prompts-per-step 2 --checkpoint-every 1 --keep 0 --eval-every 0"
expect 0 train $vggflow --steps 4 --out norms
for from in 1 2; do
    expect 0 train $vggflow --steps $from --out norms$from
    expect 0 "$DRPO" train --resume latest --out norms$from --steps 4 --threads 1
    cmp -s norms/final/adapter_model.safetensors norms$from/final/adapter_model.safetensors ||
        broken "vggflow resumed after $from updates differs"
done
check --objective awr-topk --spread-weight --diversity 1 --anchor 0.5 --feature-l2 0.1

expect 2 train --out x --method pso --candidates 5
grep -q "odd" err || broken "an odd number of candidates: $(cat err)"
expect 2 train --out x --method dpo --objective awr
grep -q -- "--objective" err || broken "an objective that is of another method: $(cat err)"
expect 2 train --out x --method grpo --grpo-anchors 9
grep -q -- "--grpo-anchors" err || broken "too many anchors: $(cat err)"
