#!/bin/sh
# A disk that fills up, as a limit on the size of a file: one clear line, exit code 1, the last checkpoint stays good.
. "$(dirname "$0")/common.sh"

expect 0 train --out alone --steps 4 --checkpoint-every 2 --eval-every 0
expect 0 train --out full --steps 2 --checkpoint-every 2 --eval-every 0

# the adapter fits, the optimizer's moments do not
adapter=$(wc -c <full/checkpoint-2/adapter_model.safetensors)
(
    ulimit -f $((adapter / 512 + 8))
    "$DRPO" train --resume latest --out full --steps 4 --threads 1 >out 2>err
)
code=$?
[ $code -eq 1 ] || { cat err >&2; broken "exit code $code instead of 1"; }
grep -q "optimizer.safetensors.*too large" err || broken "the failed file is not named: $(cat err)"
[ "$(grep -c '^drpo: ' err)" -eq 1 ] || broken "not one line: $(cat err)"
[ -d full/checkpoint-2 ] && [ ! -e full/checkpoint-4 ] || broken "checkpoints after the failure: $(ls full)"
left=$(find full -name '*.tmp*')
[ -z "$left" ] || broken "temporary files stay: $left"
expect 0 "$DRPO" train --resume latest --out full --steps 4 --threads 1
same_run alone full
