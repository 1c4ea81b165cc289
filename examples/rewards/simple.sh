#!/bin/sh
# Likes simple pictures: the smaller the PNG file, the higher the score. Needs nothing but a shell.
#
#     drpo train --reward 'exec:sh examples/rewards/simple.sh?images=paths' ...
while read -r request; do
    paths=$(printf '%s' "$request" | sed 's/.*"paths":\[//; s/\].*//' | tr -d '"' | tr ',' ' ')
    scores=
    for path in $paths; do
        scores="$scores${scores:+,}-$(($(wc -c < "$path")))"
    done
    echo "{\"scores\":[$scores]}"
done
