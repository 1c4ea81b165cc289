#!/bin/sh
# Compares drpo with diffusers, transformers, PEFT, TensorBoard and the PyTorch reference trainer, on the embedded
# model and on random models of both families; CLIP, ImageReward and HPSv3 at the published widths.
#   DRPO=build/release/drpo PYTHON=python3 tools/parity/run.sh [sample|adapters|events|updates|tokens|families|models|clip|preference ...]
# `fullsize` (SD-Turbo at full size, 8 GB of memory, minutes) runs only when it is named.
# Every check prints one line "ok NAME ..." or "NOT OK NAME ..."; the exit code is 0 when all are ok.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
DRPO=${DRPO:-$root/build/release/drpo}
PYTHON=${PYTHON:-python3}
case $DRPO in /*) ;; *) DRPO=$root/$DRPO ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DRPO OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

[ -x "$DRPO" ] || { echo "parity: $DRPO is not there; build it first (./dev build)" >&2; exit 2; }
[ $# -gt 0 ] || set -- sample adapters events updates tokens families models clip preference
status=0
for name in "$@"; do
    [ -f "$root/tools/parity/$name.py" ] || { echo "parity: no check '$name'" >&2; exit 2; }
    mkdir -p "$work/$name"
    if ! "$PYTHON" "$root/tools/parity/$name.py" "$work/$name" 2>"$work/$name.log"; then
        tail -n 15 "$work/$name.log" >&2
        status=1
    fi
done
[ $status -eq 0 ] && echo "parity: all checks passed" || echo "parity: some checks FAILED" >&2
exit $status
