#!/bin/sh
# Help, version, plan, bench, exported symbols, the example programs.
. "$(dirname "$0")/common.sh"

expect 0 "$DRPO" --version
expect 0 "$DRPO" --help
for verb in train sample score eval inspect plan export report bench rewards; do
    grep -q "  $verb " out || "$DRPO" --help | grep -q "  $verb " || broken "--help does not name $verb"
    expect 0 "$DRPO" $verb --help
    grep -q "Usage: drpo $verb" out || broken "$verb --help: $(head -1 out)"
    [ ! -s err ] || broken "$verb --help writes to stderr"
done
expect 2 "$DRPO"
expect 0 "$DRPO" --reference
cmp -s out "$SOURCE_DIR/docs/flags.md" || broken "docs/flags.md is out of date"

expect 0 "$DRPO" plan --threads 1 --candidates 8 --json
grep -q '"peak": [1-9]' out || broken "plan: $(cat out)"
expect 0 train --dry-run --out planned
grep -q "activations" out && [ ! -e planned ] || broken "--dry-run: $(cat out)"
expect 0 "$DRPO" bench --threads 1 --candidates 4 --positives 1 --negatives 1 --prompts-per-step 1 --steps 1 --json
grep -q '"seconds_per_update"' out || broken "bench: $(cat out)"

if [ -n "${LIBDRPO:-}" ] && command -v nm >/dev/null; then
    others=$(nm -D --defined-only "$LIBDRPO" | awk '$2 ~ /[TDBRWV]/ && $3 !~ /^drpo_/ {print $3}')
    [ -z "$others" ] || broken "exported beside drpo_*: $others"
    nm -D --defined-only "$LIBDRPO" | grep -q " T drpo_run" || broken "drpo_run is not exported"
fi
if [ -n "${EXAMPLES:-}" ] && [ -x "$EXAMPLES/example_sample" ]; then
    expect 0 "$EXAMPLES/example_sample" "$SOURCE_DIR/assets/tiny-turbo" "a photo of a star" star.ppm
    [ "$(wc -c <star.ppm)" -eq 12301 ] || broken "star.ppm has $(wc -c <star.ppm) bytes"
    expect 0 "$EXAMPLES/example_drift"
    expect 0 "$EXAMPLES/example_train" red 1
    [ -s red/final/adapter_model.safetensors ] || broken "example_train left no adapter"
fi
