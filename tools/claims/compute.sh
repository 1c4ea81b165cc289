#!/bin/sh
# Claim (e): seconds of an update, DrPO against DRaFT (the reward's own gradient), as the reward network grows.
#     tools/claims/compute.sh DRPO OUT [REWARD=SPEC ...]        then: python3 tools/claims/compute.py OUT
# One prompt of 4 candidates an update (the same for both), one thread. SPEC: scene-smooth, or clipscore:FOLDER with random weights of tools/fullsize/make_reward.py.
# What is measured are the phases that metrics.jsonl records; the first update warms up and is not counted.
drpo=$1 out=$2
shift 2
for named in "$@"; do
    for method in drpo draft; do
        "$drpo" train --method $method --reward "${named#*=}" --candidates 4 --positives 2 --negatives 2 --prompts-per-step 1 --steps "${STEPS:-4}" \
            --features 'resnet:tiny-mae?keys=layer4_mean,layer4_std' --lambda-ref 0.2 --eval-every 0 --checkpoint-every 0 --threads 1 \
            --text-cache off --out "$out/${named%%=*}-$method" || exit
    done
done
