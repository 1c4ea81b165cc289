#!/bin/sh
# Folders in the layouts of SD-Turbo and SDXL-Turbo go through inspect, plan, train, sample and eval like any other;
# parts that do not belong together are refused by name.
. "$(dirname "$0")/common.sh"
models=$SOURCE_DIR/tests/golden/families

for family in sd sdxl; do
    M="--model $models/$family --threads 1"
    expect 0 "$DRPO" inspect "$models/$family"
    expect 0 "$DRPO" plan $M --features 'latent?keys=latent_mean_2' --candidates 4 --positives 1 --negatives 1
    grep -q "^peak" out || broken "no plan for $family"
    expect 0 train --model "$models/$family" --out run-$family --steps 2 --lr 0.02 --eval-every 0 \
        --features 'latent?keys=latent_mean_2,latent_std_2'
    expect 0 "$DRPO" sample $M --prompt "a red star" --out base-$family.png
    expect 0 "$DRPO" sample $M --prompt "a red star" --lora run-$family --out tuned-$family.png
    cmp -s base-$family.png tuned-$family.png && broken "the adapter of $family changes nothing"
    expect 0 "$DRPO" eval $M --lora run-$family --limit 2 --seeds 1
done
grep -q "Sampler: Euler a," base-sdxl.png || broken "the sampler of SDXL-Turbo is not named"
grep -q "Sampler: Euler," base-sd.png || broken "the sampler of SD-Turbo is not named"
expect 2 "$DRPO" sample --model "$models/sd" --lora run-sdxl --prompt x --out x.png

# one generator for several pictures
S="sample --model $models/sdxl --threads 1 --prompt star --n 2"
expect 2 "$DRPO" $S --generator run --out g
grep -q -- "--rng torch" err || broken "--generator without --rng torch: $(cat err)"
for rng in torch torch-cuda; do
    expect 0 "$DRPO" $S --rng $rng --out own-$rng
    expect 0 "$DRPO" $S --rng $rng --generator prompt --out batch-$rng
    cmp -s own-$rng/00000-42.png own-$rng/00000-43.png && broken "two seeds gave one picture"
    cmp -s batch-$rng/00000-0.png batch-$rng/00000-1.png && broken "a batch repeats a picture"
    [ "$(grep -c '"seed":42' batch-$rng/manifest.jsonl)" -eq 2 ] || broken "the batch's seed is not recorded"
done

# large pictures in tiles
T="sample --model $models/sd --threads 1 --prompt star --resolution 128"
expect 0 "$DRPO" $T --out whole.png
expect 0 "$DRPO" $T --vae-tile 128 --out same.png
expect 0 "$DRPO" $T --vae-tile 64 --out tiled.png
cmp -s whole.png same.png || broken "a picture of one tile is not the whole picture"
cmp -s whole.png tiled.png && broken "--vae-tile changes nothing"
expect 2 "$DRPO" $T --vae-tile 60 --out x.png
grep -q -- "--vae-tile 60: must be a multiple of 8, at least 64" err || broken "$(cat err)"

refused() { # WORD FILE SED...: with FILE changed so, the model is refused and the message has WORD
    rm -rf broken
    cp -r "$models/sdxl" broken
    sed -i "$3" "broken/$2"
    expect 2 "$DRPO" sample --model broken --prompt x --out x.png
    grep -q -- "$1" err || broken "not '$1' but: $(cat err)"
}
refused "different families" model_index.json 's/StableDiffusionXLPipeline/StableDiffusionPipeline/'
refused "LCMScheduler" scheduler/scheduler_config.json 's/EulerAncestralDiscreteScheduler/LCMScheduler/'
refused "timestep_spacing" scheduler/scheduler_config.json 's/trailing/leading/'
refused "projection_class_embeddings_input_dim" unet/config.json \
    's/"projection_class_embeddings_input_dim": [0-9]*/"projection_class_embeddings_input_dim": 80/'
refused "CLIPTextModelWithProjection" text_encoder_2/config.json 's/CLIPTextModelWithProjection/CLIPTextModel/'
refused "tokenizer_2 makes 76" tokenizer_2/tokenizer_config.json 's/77/76/'
rm -rf broken
cp -r "$models/sdxl" broken
rm -r broken/text_encoder_2
expect 2 "$DRPO" sample --model broken --prompt x --out x.png
grep -q "text_encoder_2" err || broken "a missing text_encoder_2 is not named: $(cat err)"
