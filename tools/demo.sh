#!/bin/sh
# The main job on the embedded generator, run by `./dev demo`: a taste written as a ten-line program and the scene verifier steer it together.
#
#   base scores -> training (less than two minutes on two cores) -> the same prompts and noises again -> table and report
# Extra arguments go to `drpo train`, e.g. --steps 6 for a quick look.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
drpo=build/release/drpo
run=runs/demo

# numpy for the ten-line reward; nothing else here is Python
python=python3
if ! $python -c 'import numpy' 2>/dev/null; then
    echo "demo: installing python3-numpy for the example reward"
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get install -y -q python3-numpy >/dev/null
    python=/usr/bin/python3
fi
warm="exec:$python examples/rewards/warm.py?images=rgb"
test_set="--prompts assets/prompts/test.jsonl --seeds 8 --seed 20000"

echo "demo: the base on 120 held-out prompts, 8 noises each"
# shellcheck disable=SC2086
$drpo eval --reward "$warm" --reward scene $test_set

echo "demo: training toward warm colours and correct scenes"
$drpo train --config tools/demo.yaml --reward "$warm@0.3" --reward scene@0.7 --out "$run" --overwrite "$@"

echo "demo: base and tuned on the same held-out prompts and noises"
# shellcheck disable=SC2086
$drpo eval --lora "$run/final" --reward "$warm" --reward scene $test_set --out "$run/eval"
$drpo report "$run"
echo "demo: pictures, base beside tuned: $run/eval/grid.png"
echo "demo: adapter: $run/final   report: $root/$run/report.html"
