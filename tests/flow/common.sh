# Shared by the flow tests: a scratch folder, a small training run, and checks that say what was expected.
# Environment: DRPO (the program), SOURCE_DIR (the repository).
set -u
: "${DRPO:?path of the drpo program}"
DRPO_ASSETS=${DRPO_ASSETS:-$SOURCE_DIR/assets}
export DRPO_ASSETS
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1

# The smallest update that still does everything.
SMALL="--threads 1 --candidates 4 --positives 1 --negatives 1 --prompts-per-step 1 --features latent?keys=latent_mean_8,latent_std_8
 --lr-schedule constant --warmup 0 --eval-limit 2 --eval-seeds 1"
train() { # shellcheck disable=SC2086 # options are words
    "$DRPO" train $SMALL "$@"
}

# start ARGUMENT...: the same in the background; $pid is the program itself, so that signals reach it
start() { # shellcheck disable=SC2086
    (exec "$DRPO" train $SMALL "$@" >out 2>err) &
    pid=$!
}

broken() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# expect CODE COMMAND...: runs it with stdout and stderr in files out and err
expect() {
    wanted=$1
    shift
    "$@" >out 2>err
    code=$?
    [ "$code" -eq "$wanted" ] || {
        cat err >&2
        broken "exit code $code instead of $wanted: $*"
    }
}

# Records without their times, which differ between repetitions.
untimed() { sed 's/,"time":{.*//' "$1"; }

# same_run A B: adapters, optimizer and records are equal
same_run() {
    for file in final/adapter_model.safetensors eval.jsonl candidates.jsonl; do
        cmp -s "$1/$file" "$2/$file" || broken "$1/$file and $2/$file differ"
    done
    untimed "$1/metrics.jsonl" >a.txt
    untimed "$2/metrics.jsonl" >b.txt
    cmp -s a.txt b.txt || { diff a.txt b.txt | head -5 >&2; broken "metrics of $1 and $2 differ"; }
    newest=$(ls -d "$1"/checkpoint-* | sort -t- -k2 -n | tail -1)
    newest=${newest##*/}
    for file in adapter_model.safetensors optimizer.safetensors; do
        cmp -s "$1/$newest/$file" "$2/$newest/$file" || broken "$newest/$file differ"
    done
}
