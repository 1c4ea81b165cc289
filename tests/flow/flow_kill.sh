#!/bin/sh
# A run that is killed again and again at any instant ends as the one that was left alone.
. "$(dirname "$0")/common.sh"

expect 0 train --out alone --steps 6 --lr-schedule cosine --checkpoint-every 1 --eval-every 3
set -- 0.05 0.3 0.8 0.5 1.1 0.2 0.7 1.3 0.4 0.9
tries=0
for pause in "$@"; do
    start --out killed --steps 6 --lr-schedule cosine --checkpoint-every 1 --eval-every 3 --resume latest
    sleep "$pause"
    kill -9 $pid 2>/dev/null && tries=$((tries + 1))
    wait $pid 2>/dev/null
done
[ $tries -gt 0 ] || broken "the run ended before it could be killed"
expect 0 train --out killed --steps 6 --lr-schedule cosine --checkpoint-every 1 --eval-every 3 --resume latest
same_run alone killed
left=$(find killed -name '*.tmp*' -o -name '.tmp*')
[ -z "$left" ] || broken "temporary files stay: $left"
