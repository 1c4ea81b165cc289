#!/bin/sh
# Ctrl-C saves, says how to go on, and exits with 130; going on gives the same run.
. "$(dirname "$0")/common.sh"

expect 0 train --out alone --steps 40 --checkpoint-every 0 --eval-every 0
start --out stopped --steps 40 --checkpoint-every 0 --eval-every 0
for wait in $(seq 1200); do
    [ -s stopped/metrics.jsonl ] && break
    sleep 0.05
done
[ "$wait" -lt 1200 ] || broken "no update within a minute"
kill -INT $pid
wait $pid
code=$?
[ $code -eq 130 ] || { cat err >&2; broken "exit code $code instead of 130"; }
grep -q -- "--resume latest --out stopped" err || broken "does not say how to go on: $(cat err)"
done=$(wc -l <stopped/metrics.jsonl)
[ -d "stopped/checkpoint-$done" ] || broken "$done updates, but only $(ls stopped)"
[ ! -e stopped/final ] || broken "final/ of a run that was stopped"
expect 0 "$DRPO" train --resume latest --out stopped --threads 1
same_run alone stopped
