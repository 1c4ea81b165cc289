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
copy_model
sed -i 's/UNet2DConditionModel/AutoencoderKL/' model/unet/config.json
refuse 2 "describes AutoencoderKL" $T --model model
copy_model
cp model/unet/config.json model/vae/config.json
refuse 2 "vae/config.json: describes UNet2DConditionModel" $T --model model
copy_model
cp model/unet/config.json model/text_encoder/config.json
refuse 2 "text_encoder/config.json: describes UNet2DConditionModel" $T --model model
copy_model
sed -i 's/"out_channels": 3/"out_channels": 4/' model/vae/config.json
refuse 2 "makes 4 colours" $T --model model

# sizes of 8 dimensions in full length: a text that outgrew its room once
header='{"t":{"dtype":"F32","shape":[0'
for i in 1 2 3 4 5 6 7; do header=$header,9223372036854775807; done
header="$header],\"data_offsets\":[0,0]}}"
{ printf "\\$(printf %o ${#header})\0\0\0\0\0\0\0%s" "$header"; } >long.safetensors
"$DRPO" inspect long.safetensors >out 2>err
[ $? -lt 128 ] || broken "inspect of long.safetensors ended by a signal"

# noise for one picture of 4
printf 'a photo of a red star\n' >star.txt
expect 0 "$DRPO" sample --threads 1 --prompts star.txt --out noise --save-latents noise.safetensors
refuse 2 "4 are needed" $T --noise noise.safetensors
refuse 2 "2 are needed" sample --out pictures --prompt x --n 2 --noise noise.safetensors
refuse 2 "multiple of" eval --out pictures --resolution 63

# a folder that was there stays, but nothing is left in it
mkdir empty
expect 1 "$DRPO" train --out empty --threads 1 --candidates 4 --positives 1 --negatives 1 --reward exec:false --eval-every 0
[ -d empty ] && [ -z "$(ls -A empty)" ] || broken "a failed first update left: $(ls -A empty)"

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
for kind in exit nan text few error; do refuse 1 "exec" $T --reward "exec:sh reward.sh $kind?backoff=0.01"; done
refuse 1 "exec" $T --reward "exec:sh reward.sh hang?timeout=1&retries=0"
refuse 1 "exec" $T --reward "exec:sh reward.sh mute?ready_timeout=1&timeout=1&retries=0"
refuse 1 "exec" $T --reward exec:/nowhere/program
