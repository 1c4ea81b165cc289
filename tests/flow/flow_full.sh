#!/bin/sh
# All weights of the UNet are trained in the same loop: resumed to the byte, averaged, saved as a diffusers folder, sampled from.
. "$(dirname "$0")/common.sh"

full="--train full --lr 1e-4 --eval-every 0 --checkpoint-every 1"
# shellcheck disable=SC2086 # options are words
{
    expect 0 train --out straight --steps 2 $full --ema 0.9
    expect 0 train --out halves --steps 1 $full --ema 0.9
}
expect 0 "$DRPO" train --resume latest --out halves --steps 2 --threads 1
weights=unet/diffusion_pytorch_model.safetensors
for file in final/$weights final-raw/$weights checkpoint-2/ema/$weights checkpoint-2/optimizer.safetensors; do
    cmp -s straight/$file halves/$file || broken "$file does not resume exactly"
done
cmp -s straight/final/$weights straight/final-raw/$weights && broken "the average is the last"
cmp -s straight/checkpoint-1/$weights straight/checkpoint-2/$weights && broken "nothing was learnt"
[ -s straight/final/unet/config.json ] || broken "no config.json"
grep -q "UNet2DConditionModel" straight/final/README.md || broken "the card does not say how to load it"

expect 0 "$DRPO" sample --threads 1 --prompt "a photo of a star" --out base
expect 0 "$DRPO" sample --threads 1 --prompt "a photo of a star" --out tuned --lora straight
cmp -s base/*.png tuned/*.png 2>/dev/null && broken "sampling does not use the trained weights"
expect 2 "$DRPO" export straight --format kohya
grep -q "whole UNet" err || broken "export of a UNet: $(cat err)"
expect 2 train --out x --steps 1 --eval-every 0 --lora-init straight
grep -q -- "--train" err || broken "a LoRA that starts from a UNet: $(cat err)"
