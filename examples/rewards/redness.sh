#!/bin/sh
# Likes red pictures, like redness.py, with nothing but a shell, base64, od and awk. Slow, but it runs anywhere.
#
#     drpo train --reward 'exec:sh examples/rewards/redness.sh?images=rgb' ...
number() { printf '%s' "$request" | sed "s/.*\"$1\"://; s/[^0-9].*//"; }
while read -r request; do
    pixels=$(($(number width) * $(number height)))
    printf '%s' "$request" | sed 's/.*"rgb_b64":"//; s/".*//' | base64 -d | od -An -v -tu1 -w3 | awk -v pixels=$pixels '
        { red += $1; rest += $2 + $3 }
        NR % pixels == 0 {
            scores = scores (scores == "" ? "" : ",") sprintf("%.17g", (red - rest / 2) / (255 * pixels))
            red = rest = 0
        }
        END { printf "{\"scores\":[%s]}\n", scores }'
done
