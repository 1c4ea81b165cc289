#!/bin/sh
# The moving average of the adapter: kept apart from the last weights, resumed to the byte, evaluated, and made final/.
. "$(dirname "$0")/common.sh"

small="--ema 0.9 --checkpoint-every 2 --eval-every 2"
# shellcheck disable=SC2086 # options are words
expect 0 train --out straight --steps 4 $small
[ "$(wc -l <out)" -eq 1 ] || broken "more than final/ is printed: $(cat out)"
# shellcheck disable=SC2086
expect 0 train --out halves --steps 2 $small
expect 0 "$DRPO" train --resume latest --out halves --steps 4 --threads 1
same_run straight halves
for file in checkpoint-4/ema/adapter_model.safetensors final-raw/adapter_model.safetensors; do
    cmp -s "straight/$file" "halves/$file" || broken "$file differs after resuming"
done

cmp -s straight/final/adapter_model.safetensors straight/checkpoint-4/ema/adapter_model.safetensors || broken "final/ is not the average"
cmp -s straight/final-raw/adapter_model.safetensors straight/checkpoint-4/adapter_model.safetensors || broken "final-raw/ is not the last weights"
cmp -s straight/final/adapter_model.safetensors straight/final-raw/adapter_model.safetensors && broken "the average is the last weights"
grep -q "moving average" straight/final/README.md || broken "the card of final/ does not say what it holds"
grep -q "last update" straight/final-raw/README.md || broken "the card of final-raw/ does not say what it holds"

# the updates themselves do not depend on it, the evaluation does
expect 0 train --out plain --steps 4 --checkpoint-every 2 --eval-every 2
cmp -s plain/final/adapter_model.safetensors straight/final-raw/adapter_model.safetensors || broken "--ema changed the updates"
cmp -s plain/eval.jsonl straight/eval.jsonl && broken "the average is not what is evaluated"
[ ! -e plain/final-raw ] || broken "final-raw/ without --ema"

# what it was is part of the run
expect 2 "$DRPO" train --resume latest --out halves --steps 6 --ema 0.5
grep -q -- "--ema" err || broken "the changed option is not named: $(cat err)"
