#!/bin/sh
# Claims (a), (c), (d): trains and judges (methods.yaml), then judges every run once more on training prompts with fresh noises, and prints the tables.
#     tools/claims/methods.sh DRPO OUT
drpo=$1 out=$2 here=$(dirname "$0")
"$drpo" compare --config "$here/methods.yaml" --out "$out" --threads 1 || exit
for run in "$out"/*-[0-9]*; do
    [ -f "$run/eval-train/scores.jsonl" ] && continue
    "$drpo" eval --lora "$run" --prompts "$here/../../assets/prompts/train.jsonl" --eval-limit 120 --seeds 6 --seed 90000 --reward scene --threads 1 \
        --eval-reward "exec:python3 $here/heldout.py census?images=rgb&name=census" --out "$run/eval-train" || exit
done
for table in rank tags unseen; do
    echo
    python3 "$here/tables.py" $table "$out"
done
