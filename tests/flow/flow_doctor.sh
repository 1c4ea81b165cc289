#!/bin/sh
# drpo doctor: a line for each check, exit code 2 when one fails, and it goes on to the others.
. "$(dirname "$0")/common.sh"

model=$SOURCE_DIR/assets/tiny-turbo
HF_HUB_CACHE=$here/hub
export HF_HUB_CACHE
copy_model() { rm -rf model && cp -r "$model" model; }
# verdict WORD SUBJECT [TEXT]: a line of the last output begins so
verdict() { grep -E "^$1 +$2 .*${3:-}" out >/dev/null || { cat out >&2; broken "no line '$1 $2 ${3:-}'"; }; }

expect 0 "$DRPO" doctor
for subject in processor threads memory GPU cache model networks tokenizer text_encoder unet vae; do grep -qE "^(ok|WARN) +$subject " out || broken "no line of $subject"; done
grep -q FAIL out && broken "$(cat out)"
verdict ok tokenizer "comes back"
verdict ok unet "all finite"
expect 0 "$DRPO" doctor "$model"

copy_model
rm -r model/vae
expect 2 "$DRPO" doctor model
verdict FAIL networks "hf download"
verdict FAIL vae "hf download"
verdict ok unet
grep -q "checks failed" err || broken "$(cat err)"

copy_model
rm model/tokenizer/merges.txt
expect 2 "$DRPO" doctor model
verdict FAIL tokenizer merges.txt
verdict ok vae

# the last value of the UNet's file is no number
copy_model
file=model/unet/diffusion_pytorch_model.safetensors
size=$(wc -c <$file)
for offset in 1 2 3 4 5 6 7 8; do printf '\377' | dd of=$file bs=1 seek=$((size - offset)) conv=notrunc 2>/dev/null; done
expect 2 "$DRPO" doctor model
verdict FAIL unet "not finite"
verdict ok networks
verdict ok text_encoder

expect 2 "$DRPO" doctor some/model
verdict FAIL model "hf download some/model"
verdict "(ok|WARN)" processor
expect 2 "$DRPO" doctor a b
grep -q "takes one MODEL" err || broken "$(cat err)"
