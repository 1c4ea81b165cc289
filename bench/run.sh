#!/bin/sh
# Measures one update of the demo beside the same update of the PyTorch reference trainer, alternately in one go, and prints the
# ratios.
#   bench/run.sh DRPO PYTHON [ROUNDS]     DRPO: the program; PYTHON: an interpreter with torch, diffusers, peft and numpy
# Appends a machine header and every figure to bench/results/<date>.jsonl.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
drpo=$(realpath "$1") python=$2 rounds=${3:-3} threads=$(nproc)
out=$here/bench/results/$(date -u +%Y-%m-%d).jsonl
tmp=$(mktemp)
demo=$(mktemp)
trap 'rm -f "$tmp" "$demo"' EXIT
grep -v '^eval-' "$here/tools/demo.yaml" >"$demo" # evaluations are no part of an update
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
isa=$(sed -n 's/^flags[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr ' ' '\n' | grep -E '^(avx2|avx512f|avx512_bf16|amx_bf16)$' | sort | tr '\n' ' ')
printf '{"machine": "%s", "isa": "%s", "cores": %s, "date": "%s"}\n' "$model" "$isa" "$threads" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$tmp"
i=0
while [ "$i" -lt "$rounds" ]; do
    (cd "$here" && "$drpo" bench --config "$demo" --reward "exec:$python examples/rewards/warm.py?images=rgb@0.4" --reward scene@0.6 \
        --steps 4 --threads "$threads" --json) | tr -d '\n' | sed 's/^{/{"program": "drpo",/' >>"$tmp"
    echo >>"$tmp"
    OMP_NUM_THREADS=$threads "$python" "$here/bench/peer.py" --steps 3 --threads "$threads" 2>/dev/null | tail -n 1 >>"$tmp"
    i=$((i + 1))
done
mkdir -p "$here/bench/results"
cat "$tmp" >>"$out"
"$python" "$here/bench/ratios.py" "$tmp"
echo "recorded in $out"
