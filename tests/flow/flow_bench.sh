#!/bin/sh
# `drpo bench step --shape`: the embedded generator from end to end, and what is refused before gigabytes are written.
. "$(dirname "$0")/common.sh"

expect 0 "$DRPO" bench step --shape tiny --k 4 --positives 1 --negatives 1 --prompts-per-step 1 --steps 1 --features "latent?keys=latent_mean_8" --threads 1 --dtype f32 --json
[ "$(wc -l <out)" -eq 1 ] || broken "not one line: $(cat out)"
for key in '"model": "tiny-turbo"' '"candidates": 4' '"side": 64' '"dtype": "f32"' '"updates": 1' '"start_seconds": [0-9]' '"peak_bytes": [1-9]'; do
    grep -q "$key" out || broken "$key is missing: $(cat out)"
done
for phase in text generate reference decode reward features backward optimizer; do
    grep -q "\"$phase\": [0-9]" out || broken "phase $phase is missing: $(cat out)"
done

# refused PATTERN ARGUMENT...: exit code 2 and one line with the pattern
refused() {
    pattern=$1
    shift
    expect 2 "$@"
    [ "$(wc -l <err)" -eq 1 ] && grep -q -e "$pattern" err || broken "$*: $(cat err)"
}
refused "sd-turbo" "$DRPO" bench step --shape sd-15
refused "--model" "$DRPO" bench step --shape sd-turbo --model tiny-turbo --shape-dir shapes
refused "bench step" "$DRPO" bench op --shape sd-turbo
refused "--shape-dir" env -u HOME -u XDG_CACHE_HOME "$DRPO" bench step --shape sd-turbo
refused "fewer than" "$DRPO" bench step --shape sd-turbo --k 2 --positives 3 --shape-dir shapes
[ ! -e shapes ] || broken "a refused shape leaves files: $(ls -R shapes)"

# A disk of a megabyte, where the system lets this user mount one.
mkdir disk
small="mount -t tmpfs -o size=1m none disk"
if unshare -rm sh -c "$small" 2>/dev/null; then
    refused "GiB are needed there" unshare -rm sh -c "$small && \"$DRPO\" bench step --shape sd-turbo --shape-dir disk; code=\$?; ls disk >left; exit \$code"
    [ ! -s left ] || broken "a full disk keeps $(cat left)"
fi
