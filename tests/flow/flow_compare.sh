#!/bin/sh
# Several methods and several values of an option: one table; a comparison that is killed or stopped goes on.
. "$(dirname "$0")/common.sh"

BRIEF="$SMALL --steps 2 --eval-every 0 --test-limit 2 --test-pictures 2"
compare() { # shellcheck disable=SC2086 # options are words
    "$DRPO" compare $BRIEF --methods drpo,dpo --seeds 2 "$@"
}
# scores of all runs, without what time decides
scores() { cat "$1"/drpo-42/eval/scores.jsonl "$1"/drpo-43/eval/scores.jsonl "$1"/dpo-42/eval/scores.jsonl "$1"/dpo-43/eval/scores.jsonl; }

expect 0 compare --out alone --same-time off
grep -q "equal generator calls" out || broken "no table: $(cat out)"
grep -q "^dpo .*!*$" alone/table.txt && cmp -s out alone/table.txt || broken "table.txt is not what was printed"
grep -q '"generator_calls": 8' alone/table.json || broken "calls are not counted: $(cat alone/table.json)"
grep -q "<svg" alone/report.html && grep -q "drpo compare" alone/report.html || broken "report.html"
grep -q '"model": *"tuned"' alone/dpo-43/eval/scores.jsonl || broken "a run is not judged"
cmp -s alone/drpo-42/final/adapter_model.safetensors alone/dpo-42/final/adapter_model.safetensors && broken "methods do not differ"

# the run inside is the run of train itself
expect 0 train --out single --steps 2 --eval-every 0 --method dpo --seed 43
cmp -s single/final/adapter_model.safetensors alone/dpo-43/final/adapter_model.safetensors || broken "a run differs from drpo train"

# the base is judged once for all runs, and what is written is what an evaluation of its own writes
cat >counting.sh <<'EOF'
echo '{"status": "ready"}'
while read -r _; do
    echo prompt >>judged.txt
    echo '{"scores": [0.25, 0.5]}'
done
EOF
expect 0 compare --out counted --same-time off --seeds 1 --eval-reward "exec:sh counting.sh"
[ "$(wc -l <judged.txt)" -eq 6 ] || broken "2 prompts, the base and 2 adapters: judged $(wc -l <judged.txt) times"
# shellcheck disable=SC2086
expect 0 "$DRPO" eval --lora counted/dpo-42 --threads 1 --eval-limit 2 --seeds 2 --seed 20000 --eval-reward "exec:sh counting.sh" --out judged \
    --prompts prompts/test.jsonl
for file in scores.jsonl table.json table.txt grid.png; do
    cmp -s counted/dpo-42/eval/$file judged/$file || broken "eval/$file differs from that of drpo eval"
done

# killed at any instant, then the same command
for pause in 0.3 0.9 1.6 0.6; do
    # shellcheck disable=SC2086
    (exec "$DRPO" compare $BRIEF --methods drpo,dpo --seeds 2 --out killed --same-time off >out 2>err) &
    pid=$!
    sleep "$pause"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
done
expect 0 compare --out killed --same-time off
scores alone >a.txt
scores killed >b.txt
cmp -s a.txt b.txt || broken "a comparison that was killed ends with other scores"

# what is finished stays as it is
touch -d 2001-01-01 alone/dpo-42/metrics.jsonl alone/dpo-42/eval/scores.jsonl
expect 0 compare --out alone --same-time off
[ "$(find alone/dpo-42 -name '*.jsonl' ! -newermt 2002-01-01 | wc -l)" -eq 2 ] || broken "a finished run is made again"
cmp -s out alone/table.txt || broken "the table changes"
# other pictures: judged anew, not trained anew
expect 0 compare --out alone --same-time off --test-seed 30000
[ "$(find alone/dpo-42 -name '*.jsonl' ! -newermt 2002-01-01 | wc -l)" -eq 1 ] || broken "--test-seed does not judge anew"
expect 2 compare --out alone --same-time off --lr 0.5
grep -q "was made with --lr" err || broken "another --lr in the same folder: $(cat err)"

# Ctrl-C
# shellcheck disable=SC2086
(exec "$DRPO" compare $BRIEF --methods drpo,dpo --seeds 2 --out stopped --steps 400 --checkpoint-every 0 --same-time off >stopped.out 2>stopped.err) &
pid=$!
for wait in $(seq 1200); do
    [ -s stopped/drpo-42/metrics.jsonl ] && break
    sleep 0.05
done
expect 2 compare --out stopped --steps 400 --checkpoint-every 0 --same-time off
grep -q "stopped: another drpo works in this folder" err || broken "two comparisons in one folder: $(cat err)"
for how in "--resume latest" --overwrite; do # shellcheck disable=SC2086
    expect 2 train --out stopped/drpo-42 $how
    grep -q "another drpo works in this folder" err || broken "two runs in one folder, $how: $(cat err)"
done
kill -INT $pid
wait $pid
[ $? -eq 130 ] || { cat stopped.err >&2; broken "exit code of Ctrl-C"; }
grep -q "the same command goes on in stopped" stopped.err || broken "does not say how to go on: $(cat stopped.err)"
ls -d stopped/drpo-42/checkpoint-* >/dev/null 2>&1 || broken "the run that was stopped is not saved: $(ls stopped/*)"

# a grid, tuning, both ways to the same time
# shellcheck disable=SC2086
expect 0 "$DRPO" sweep $BRIEF --seeds 1 --vary K=4,8 --tune lr=1e-4,1e-3 --tune-prompts 2 --tune-pictures 1 --out grid
grep -q "generator calls differ" grid/table.txt && grep -q "at the same time" grid/table.txt || broken "sweep: $(cat grid/table.txt)"
[ "$(ls grid/tune | wc -l)" -eq 4 ] || broken "tuning runs: $(ls grid/tune)"
grep -q '"chosen": "1e-[34]"' grid/table.json || broken "what was tuned is not recorded"
# shellcheck disable=SC2086
expect 0 "$DRPO" sweep $BRIEF --seeds 1 --vary K=4,8 --out anew --same-time retrain
grep -q "Trained anew" anew/table.txt || broken "retrain: $(cat anew/table.txt)"

expect 2 "$DRPO" sweep --out x
grep -q -- "--vary" err || broken "nothing to vary: $(cat err)"
expect 2 compare --out x --tune-seed 20000 --tune lr=1,2
grep -q -- "--tune-seed" err || broken "noises used twice: $(cat err)"
expect 2 compare --out x --set dpo:candidates=1
[ ! -e x ] || broken "a mistake leaves a folder"
