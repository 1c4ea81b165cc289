#!/bin/sh
# Wrong use and bad input: one line on stderr that names the culprit, exit code 2 (1 for a reward that fails), nothing written.
. "$(dirname "$0")/common.sh"

model=$SOURCE_DIR/assets/tiny-turbo
copy_model() { rm -rf model && cp -r "$model" model; }

# refuse CODE WORD ARGUMENT...
refuse() {
    wanted=$1 word=$2
    shift 2
    expect "$wanted" "$DRPO" "$@"
    [ "$(wc -l <err)" -eq 1 ] || { cat err >&2; broken "not one line on stderr: drpo $*"; }
    grep -q -e "$word" err || broken "'$word' is not in: $(cat err)"
    [ ! -s out ] || broken "output in spite of the mistake: $(cat out)"
    [ ! -e run ] && [ ! -e pictures ] || broken "files were left by: drpo $*"
}
T="train --out run --threads 1 --steps 1 --prompts-per-step 1 --eval-every 0 --candidates 4 --positives 1 --negatives 1"
set -f

refuse 2 "not a verb" trian
refuse 2 "did you mean --steps" $T --stpes 3
refuse 2 "--steps" $T --steps none
refuse 2 "--candidates 4 is fewer" $T --positives 3 --negatives 2
refuse 2 "nowhere" $T --model nowhere
refuse 2 "nowhere.txt" $T --prompts nowhere.txt
refuse 2 "multiple of" $T --resolution 63
refuse 2 "nowhere" $T --config nowhere.yaml
refuse 2 "layer9" $T --features latent?keys=layer9_mean
refuse 2 "no linear layer" $T --lora-targets nothing
refuse 2 "unknown\|kind" $T --reward beauty
refuse 2 "nowhere" $T --lora-init nowhere
refuse 2 "nowhere" $T --resume run/checkpoint-nowhere
refuse 2 "--prompt" sample --out pictures
refuse 2 "nowhere" sample --out pictures --prompt x --lora nowhere
refuse 2 "nowhere.png" score --reward exec:cat nowhere.png
refuse 2 "no such" inspect nowhere
refuse 2 "nowhere" export nowhere

: >empty.txt
refuse 2 "empty.txt" $T --prompts empty.txt
printf 'a photo of a \377 star\n' >latin.txt
refuse 2 "UTF-8" $T --prompts latin.txt --reward exec:cat
printf 'a photo of a star\n' >plain.txt
refuse 2 "metadata" $T --prompts plain.txt
printf '{"prompt": "x"\n' >broken.jsonl
refuse 2 "broken.jsonl:1" $T --prompts broken.jsonl

copy_model
head -c 100000 "$model/unet/diffusion_pytorch_model.safetensors" >model/unet/diffusion_pytorch_model.safetensors
refuse 2 "diffusion_pytorch_model.safetensors" $T --model model
copy_model
rm model/vae/config.json
refuse 2 "vae/config.json" $T --model model
copy_model
sed -i 's/StableDiffusionPipeline/FluxPipeline/' model/model_index.json
refuse 2 "FluxPipeline" $T --model model
copy_model
sed -i 's/"cross_attention_dim": [0-9]*/"cross_attention_dim": 80/' model/unet/config.json
refuse 2 "cross_attention_dim" $T --model model
mkdir folder && : >folder/something
refuse 2 "not empty" train --out folder --threads 1

# rewards that misbehave
cat >reward.sh <<'END'
[ "$1" = mute ] && sleep 1000
echo '{"status": "ready"}'
read -r request
case $1 in
exit) echo "gone" >&2; exit 3 ;;
nan) while :; do echo '{"scores": [NaN, 1, 2, 3]}'; read -r request; done ;;
text) while :; do echo '{"scores": ["a", 1, 2, 3]}'; read -r request; done ;;
few) while :; do echo '{"scores": [1, 2]}'; read -r request; done ;;
error) while :; do echo '{"error": "no such prompt"}'; read -r request; done ;;
hang) sleep 1000 ;;
esac
END
for kind in exit nan text few error; do refuse 1 "exec" $T --reward "exec:sh reward.sh $kind"; done
refuse 1 "exec" $T --reward "exec:sh reward.sh hang?timeout=1"
refuse 1 "exec" $T --reward "exec:sh reward.sh mute?ready_timeout=1&timeout=1"
refuse 1 "exec" $T --reward exec:/nowhere/program
