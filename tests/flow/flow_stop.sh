#!/bin/sh
# Gauges of reward hacking in every evaluation; --stop-when ends a run that games its reward, keeps the best adapter that
# broke no rule, says why, and is resumed to the byte.
. "$(dirname "$0")/common.sh"

redness="plugin:$EXAMPLES/redness.so"
fast="--reward $redness --lr 0.003 --seed 1 --eval-seeds 2 --eval-reward scene --checkpoint-every 2 --eval-every 2"

# gauge RUN STEP KEYS: a number of the evaluation
gauge() { python3 -c '
import json, sys
for line in open(sys.argv[1] + "/eval.jsonl"):
    value = json.loads(line)
    if value["step"] == int(sys.argv[2]):
        for key in sys.argv[3].split("/"):
            value = value[key]
        print(value)' "$1" "$2" "$3"; }
check() { python3 -c "import sys; sys.exit(not ($1))" || broken "$1"; }

# a run that nothing stops; before the first update tuned is base
# shellcheck disable=SC2086 # options are words
expect 0 train $fast --out free --steps 6
for name in diversity feature_diversity saturation high_frequency; do
    [ "$(gauge free 0 gauges/ratio/$name)" = 1.0 ] || broken "$name of the base against itself: $(head -1 free/eval.jsonl)"
    check "$(gauge free 6 gauges/$name/base) == $(gauge free 0 gauges/$name/base) > 0"
    check "abs($(gauge free 6 gauges/$name/tuned) / $(gauge free 6 gauges/$name/base) - $(gauge free 6 gauges/ratio/$name)) < .3"
done
check "0 == $(gauge free 0 gauges/distance/latent) < $(gauge free 2 gauges/distance/latent) < $(gauge free 6 gauges/distance/latent)"
check "0 == $(gauge free 0 gauges/distance/pixels) < $(gauge free 6 gauges/distance/pixels) < 1"
grep -q '"stop"' free/eval.jsonl && broken "a run without rules was stopped"
for tag in gauges/diversity_over_base gauges/high_frequency gauges/distance eval/heldout/scene; do
    grep -q "$tag" free/events.out.tfevents.* || broken "TensorBoard lacks $tag"
done

# distances grow, so a limit between those of steps 2 and 6 fires at 4 or 6
limit=$(python3 -c "print(round(($(gauge free 2 gauges/distance/latent) + $(gauge free 4 gauges/distance/latent)) / 2, 4))")
# shellcheck disable=SC2086
expect 0 train $fast --out stopped --steps 10 --stop-when "distance_above=$limit,diversity_below=0.001"
grep -q "stopped by --stop-when distance_above=$limit at step 4" err || broken "the terminal does not say why: $(cat err)"
grep -q "final/ holds the adapter of step" err || broken "the terminal does not say what is kept: $(cat err)"
[ "$(cat out)" = stopped/final ] || broken "printed $(cat out)"
[ "$(wc -l <stopped/metrics.jsonl)" -eq 4 ] || broken "updates after the rule fired: $(wc -l <stopped/metrics.jsonl)"
[ "$(gauge stopped 4 stop/rules)" = "distance_above=$limit" ] || broken "records: $(tail -1 stopped/eval.jsonl)"
[ "$(gauge stopped 4 stop/value)" = "$(gauge free 4 gauges/distance/latent)" ] || broken "records: $(tail -1 stopped/eval.jsonl)"
kept=$(gauge stopped 4 stop/kept)
best=$(python3 -c "print(2 if $(gauge free 2 reward/tuned) >= $(gauge free 0 reward/tuned) else 0)")
[ "$kept" = "$best" ] || broken "kept $kept, but the reward was best at $best"
cmp -s stopped/final/adapter_model.safetensors stopped/checkpoint-4/kept/adapter_model.safetensors || broken "final/ is not what is kept"
[ "$kept" = 2 ] || broken "the reward did not rise in two updates"
cmp -s stopped/final/adapter_model.safetensors stopped/checkpoint-2/adapter_model.safetensors || broken "final/ is not step 2"
grep -q "ended the run at step 4" stopped/final/README.md || broken "the card does not say it: $(head -20 stopped/final/README.md)"
expect 0 "$DRPO" report stopped
for text in "distance_above=$limit" "step 4" "base's norm away" "step 2, which is final/" "<pre>drpo train" "gamed"; do
    grep -q "$text" stopped/report.html || broken "the report lacks '$text'"
done

# resumed: from the middle it comes to the same end, and after the end there is nothing to do
cp -r stopped halves && rm -r halves/checkpoint-4 halves/final
expect 0 "$DRPO" train --resume latest --out halves --threads 1
same_run stopped halves
[ "$(grep kept stopped/checkpoint-4/state.json)" = "$(grep kept halves/checkpoint-4/state.json)" ] || broken "another evaluation is kept after resuming"
cmp -s stopped/checkpoint-4/kept/adapter_model.safetensors halves/checkpoint-4/kept/adapter_model.safetensors || broken "kept/ differ"
rm -r halves/final
expect 0 "$DRPO" train --resume latest --out halves --threads 1
grep -q "nothing to go on with" err || broken "a resumed run does not say that it is over: $(cat err)"
same_run stopped halves

# without the rules it goes on, as if there had been none
expect 0 "$DRPO" train --resume latest --out halves --steps 6 --threads 1 --stop-when off
sed 's/,"stop":{.*/}/' halves/eval.jsonl >untold && mv untold halves/eval.jsonl
same_run free halves

# rules that cannot be meant
expect 2 train --out no --steps 1 --stop-when beauty_below=1
grep -q "diversity_below" err || broken "the rules are not listed: $(cat err)"
expect 2 train --out no --steps 1 --stop-when heldout_drop=0.1
grep -q -- "--eval-reward" err || broken "$(cat err)"
expect 2 train --out no --steps 1 --stop-when diversity_below=0.7
grep -q -- "--eval-seeds" err || broken "$(cat err)"
[ ! -e no ] || broken "a refused run left a folder"

# with a moving average it is the average that is judged and kept
# shellcheck disable=SC2086
expect 0 train $fast --out average --steps 4 --ema 0.5 --stop-when reward_plateau=1,distance_above=0.001
grep -q "moving average of the weights: those of step" average/final/README.md || broken "$(cat average/final/README.md)"
cmp -s average/final-raw/adapter_model.safetensors average/checkpoint-2/adapter_model.safetensors || broken "final-raw/ is not the last weights"
