#!/bin/sh
# A generator from nothing: small, stopped by force and resumed to the byte, and usable by the other verbs.
. "$(dirname "$0")/common.sh"

small="--threads 1 --vae-steps 1 --text-steps 1 --steps 4 --prompts-per-step 1 --candidates 2 --eval-every 0 --checkpoint-every 1"
# shellcheck disable=SC2086 # options are words
{
    expect 0 "$DRPO" pretrain --out alone $small
    tries=0
    for pause in 0.2 0.7 0.4 1.1 0.9; do
        (exec "$DRPO" pretrain --out killed $small >out 2>err) &
        pid=$!
        sleep $pause
        kill -9 $pid 2>/dev/null && tries=$((tries + 1))
        wait $pid 2>/dev/null
    done
    [ $tries -gt 0 ] || broken "it ended before it could be killed"
    expect 0 "$DRPO" pretrain --out killed $small
}
weights=unet/diffusion_pytorch_model.safetensors
for file in captions/captions.jsonl vae/config.json vae/diffusion_pytorch_model.safetensors text_encoder/model.safetensors start/$weights model/$weights run/final-raw/$weights run/checkpoint-4/optimizer.safetensors; do
    cmp -s alone/$file killed/$file || broken "$file is not what it is when nothing is killed"
done
cmp -s alone/start/$weights alone/model/$weights && broken "nothing was learnt"
[ "$(wc -l <alone/run/metrics.jsonl)" -eq 4 ] || broken "metrics.jsonl has not one line per update"
grep -q '"latent_distance"' alone/run/metrics.jsonl || broken "the distance to the scenes is not recorded"
left=$(find killed -name '*.tmp*' -o -name '.tmp*')
[ -z "$left" ] || broken "temporary files stay: $left"

# the result is a model like any other, and the run one like any other
expect 0 "$DRPO" sample --model alone/model --threads 1 --prompt "a photo of a star" --out pictures
expect 0 "$DRPO" eval --model alone/model --threads 1 --reward scene --eval-limit 2 --seeds 1
expect 0 "$DRPO" report alone/run
expect 0 "$DRPO" doctor alone/model

# other options than the run's are refused
# shellcheck disable=SC2086
expect 2 "$DRPO" pretrain --out alone $small --lr 0.5
grep -q -- "--lr" err || broken "the changed option is not named: $(cat err)"
# shellcheck disable=SC2086
expect 2 "$DRPO" pretrain --out alone $small --vae-steps 3
grep -q -- "--vae-steps" err || broken "the changed option is not named: $(cat err)"

# one process at a time
(exec "$DRPO" pretrain --out busy --threads 1 >/dev/null 2>&1) &
other=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -d busy/captions ] || sleep 0.2; done
# shellcheck disable=SC2086
expect 2 "$DRPO" pretrain --out busy $small
grep -q "busy: another drpo" err || broken "the folder is not named: $(cat err)"
kill $other
wait $other 2>/dev/null

# parts of the embedded generator
# shellcheck disable=SC2086
expect 0 "$DRPO" pretrain --out parts $small --vae-steps 0 --text-steps 0 --steps 1
for file in vae/config.json vae/diffusion_pytorch_model.safetensors text_encoder/model.safetensors; do
    cmp -s parts/model/$file "$SOURCE_DIR/assets/tiny-turbo/$file" || broken "$file is not the embedded generator's"
    cmp -s alone/model/$file "$SOURCE_DIR/assets/tiny-turbo/$file" && broken "$file is the embedded generator's"
done

expect 2 "$DRPO" pretrain --out x --pair-weight 0 --drift-weight 0
