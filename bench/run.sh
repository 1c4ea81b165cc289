#!/bin/sh
# Measures drpo beside PyTorch, alternately in one go, and prints the ratios.
#   bench/run.sh DRPO PYTHON [ROUNDS]              one update with the demo's rewards beside the reference trainer
#   bench/run.sh DRPO PYTHON [ROUNDS] full sd-turbo|sdxl-turbo [K]  the published sizes with random weights, which drpo writes once to
#                       $SHAPES (drpo/shapes in the cache folder) and both read: an update, K (4) candidates of 256 x 256, and from
#                       the start to one picture of 512 x 512, beside diffusers
# DRPO: the program; PYTHON: an interpreter with torch, diffusers, peft and numpy. Appends a machine header and every figure to
# bench/results/<date>.jsonl.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
drpo=$(realpath "$1") python=$2 rounds=${3:-3} kind=${4:-demo} threads=$(nproc)
out=$here/bench/results/$(date -u +%Y-%m-%d).jsonl
tmp=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$tmp" "$work"' EXIT
export OMP_NUM_THREADS="$threads"

ours() { # arguments of `drpo bench`
    "$drpo" bench "$@" --threads "$threads" --json | tr -d '\n' | sed 's/^{/{"program": "drpo",/' >>"$tmp"
    echo >>"$tmp"
}

theirs() { "$python" "$@" 2>/dev/null | tail -n 1 >>"$tmp"; }

demo_round() {
    ours --config bench/update.yaml --reward "exec:$python examples/rewards/warm.py?images=rgb@0.4" --reward scene@0.6 --steps 4
    theirs bench/peer.py --steps 3 --threads "$threads"
}

full_round() {
    echo "a red fox in the snow" >"$work/prompts.txt"
    ours step --shape "$shape" --shape-dir "$shapes" --resolution 256 --candidates "$k" --prompts "$work/prompts.txt" --steps 2
    theirs bench/peer_full.py "$model" --candidates "$k" --steps 2 --threads "$threads"
    theirs bench/measure.py drpo "$drpo" sample --model "$model" --resolution 512 --prompt "a red fox" --out "$work/samples" \
        --text-cache "$(mktemp -d "$work/text.XXXXXX")" --json # no prompt is known from an earlier round
    theirs bench/measure.py pytorch "$python" tools/fullsize/peer_sample.py "$model" 512
}

cd "$here"
if [ "$kind" = full ]; then
    shape=${5:?sd-turbo or sdxl-turbo} k=${6:-4}
    shapes=$(realpath -m "${SHAPES:-${XDG_CACHE_HOME:-$HOME/.cache}/drpo/shapes}")
    model=$shapes/$shape
fi
cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
isa=$(sed -n 's/^flags[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr ' ' '\n' | grep -E '^(avx2|avx512f|avx512_bf16|amx_bf16)$' | sort | tr '\n' ' ')
printf '{"machine": "%s", "isa": "%s", "cores": %s, "date": "%s", "measured": "%s"}\n' "$cpu" "$isa" "$threads" \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$kind" >>"$tmp"
i=0
while [ "$i" -lt "$rounds" ]; do
    "${kind}_round"
    i=$((i + 1))
done
mkdir -p bench/results
cat "$tmp" >>"$out"
"$python" bench/ratios.py "$tmp"
echo "recorded in $out"
