#!/bin/sh
# Measures rewards: native models of full size (random weights) beside transformers, and the way to a black box that does nothing.
#   bench/rewards.sh DRPO PYTHON FOLDER MODEL...   models: clipscore clipscore-h pickscore hpsv2 aesthetic imagereward hpsv3
#   bench/rewards.sh DRPO PYTHON FOLDER boxes
# FOLDER has what tools/fullsize/make_reward.py wrote: clip-l, clip-h, pickscore, hpsv2, aesthetic, imagereward, hpsv3. Both programs score the
# same pictures (PICTURES, 8 of SIDE 512 pixels), each round for another prompt (ROUNDS, 3, after one that is not timed), with all
# cores (THREADS). Appends a machine header and every figure to bench/results/<date>-rewards.jsonl.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
drpo=$(realpath "$1") python=$2 folder=$(realpath "$3")
shift 3
threads=${THREADS:-$(nproc)} pictures=${PICTURES:-8} side=${SIDE:-512} rounds=${ROUNDS:-3}
out=$here/bench/results/$(date -u +%Y-%m-%d)-rewards.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS="$threads" no_proxy='*'
cd "$here"
for animal in fox cat horse owl bear; do echo "a photo of a red $animal in the snow"; done >"$work/prompts.txt"

record() { tail -n 1 | sed "s/^{/{\"box\": \"$1\", /" >>"$work/rows"; }
ours() { # SPECIFICATION SIDE
    "$drpo" bench reward --reward "$1" --prompts "$work/prompts.txt" --candidates "$pictures" --resolution "$2" --steps "$rounds" --json
}
beside() { # MODEL SPECIFICATION KIND FOLDER [OPTION...]: drpo, then transformers
    model=$1 specification=$2 kind=$3
    shift 3
    ours "$specification" "$side" | sed "s/^{/{\"program\": \"drpo\", \"model\": \"$model\", /" >>"$work/rows"
    "$python" bench/peer_reward.py "$kind" "$@" --prompts "$work/prompts.txt" --pictures "$pictures" --side "$side" --rounds "$rounds" \
        --threads "$threads" 2>"$work/log" | sed "s/^{/{\"model\": \"$model\", /" >>"$work/rows" || { cat "$work/log" >&2; exit 1; }
}

boxes() {
    cc -shared -fPIC -O2 -I include -o "$work/nothing.so" bench/nothing.c
    cc -O2 -I include -o "$work/callback" bench/callback.c -L "$(dirname "$drpo")" -ldrpo -Wl,-rpath,"$(dirname "$drpo")"
    "$python" bench/nothing.py http >"$work/url" &
    server=$!
    trap 'kill $server; rm -rf "$work"' EXIT
    while [ ! -s "$work/url" ]; do sleep 0.1; done
    for pixels in 256 512; do
        for form in png rgb paths; do ours "exec:$python bench/nothing.py exec?images=$form" $pixels | record "exec, $form"; done
        for form in png rgb; do ours "$(cat "$work/url")?images=$form" $pixels | record "http, $form"; done
        ours "plugin:$work/nothing.so" $pixels | record plugin
        "$work/callback" --prompts "$work/prompts.txt" --candidates "$pictures" --resolution $pixels --steps "$rounds" --json | record callback
    done
}

cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
printf '{"machine": "%s", "cores": %s, "date": "%s", "measured": "rewards: %s"}\n' "$cpu" "$threads" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >"$work/rows"
for model; do
    f=$folder
    case $model in
    boxes) boxes ;;
    clipscore) beside "$model" "clipscore:$f/clip-l" clipscore "$f/clip-l" ;;
    clipscore-h) beside "$model" "clipscore:$f/clip-h" clipscore "$f/clip-h" ;;
    pickscore) beside "$model" "pickscore:$f/pickscore" pickscore "$f/pickscore" ;;
    hpsv2) beside "$model" "hpsv2:$f/hpsv2/HPS_v2.1_compressed.pt" hpsv2 "$f/clip-h" ;;
    aesthetic)
        head=$f/aesthetic/sac+logos+ava1-l14-linearMSE.pth
        beside "$model" "aesthetic:$f/clip-l?head=$head" aesthetic "$f/clip-l" --head "$head"
        ;;
    imagereward) beside "$model" "imagereward:$f/imagereward" imagereward "$f/imagereward" ;;
    hpsv3) beside "$model" "hpsv3:$f/hpsv3?batch=1" hpsv3 "$f/hpsv3" ;;
    *)
        echo "$0: no model is called $model" >&2
        exit 2
        ;;
    esac
done
mkdir -p bench/results
cat "$work/rows" >>"$out"
"$python" - "$work/rows" <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
for r in rows:
    if "box" in r:
        print(f"{r['box']:12} {r['side']} pixels: {1e3 * r['seconds_per_image']:.4f} ms an image")
pairs = {}
for r in rows:
    if "model" in r:
        pairs.setdefault(r["model"], {})[r["program"]] = r
for model, p in pairs.items():
    d, t = p["drpo"], p["transformers"]
    gap = max(abs(a - b) for a, b in zip(d["scores"], t["scores"]))
    print(f"{model:12} images/s {d['images_per_second']:8.3f} beside {t['images_per_second']:8.3f} ({d['images_per_second'] / t['images_per_second']:.2f}x),"
          f" processor seconds an image {d['processor_seconds_per_image']:.3f} beside {t['processor_seconds_per_image']:.3f},"
          f" MiB {d['peak_bytes'] / 2**20:7.0f} beside {t['peak_bytes'] / 2**20:7.0f}, scores apart by {gap:.1e}")
END
echo "recorded in $out"
