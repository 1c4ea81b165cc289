#!/bin/sh
# The forms in which people hold a model: all give the same pictures. What is not a model is refused with the command that gets one.
. "$(dirname "$0")/common.sh"

model=$SOURCE_DIR/assets/tiny-turbo
S="sample --threads 1 --prompt star --seed 3"
unset HF_HOME HUGGINGFACE_HUB_CACHE
HF_HUB_CACHE=$here/hub
export HF_HUB_CACHE

# pictures OUT ARGUMENT...
pictures() {
    out=$1
    shift
    expect 0 "$DRPO" $S --out "$out" "$@"
}
# same A B: the pixels (the files' text names the model)
same() { cmp -s "$1.latents" "$2.latents" || broken "$1 and $2 differ"; }
refuse() {
    word=$1
    shift
    expect 2 "$DRPO" $S --out refused "$@"
    [ "$(wc -l <err)" -eq 1 ] || { cat err >&2; broken "not one line: $*"; }
    grep -q -e "$word" err || broken "'$word' is not in: $(cat err)"
    grep -q -e "hf download" err || broken "no command in: $(cat err)"
    [ ! -e refused ] || broken "something was written: $*"
}

pictures plain --model "$model" --save-latents plain.latents

# the cache of `hf download`: a snapshot of links to blobs
commit=0123456789012345678901234567890123456789
cached=hub/models--some--one-step
refuse "neither a folder nor in the Hugging Face cache" --model some/one-step
mkdir -p $cached/refs $cached/blobs
printf %s $commit >$cached/refs/main
cp -r "$model" $cached/blobs/tree
(cd "$model" && find . -type f) | while read -r file; do
    mkdir -p "$cached/snapshots/$commit/$(dirname "$file")"
    ln -s "$here/$cached/blobs/tree/$file" "$cached/snapshots/$commit/$file"
done
pictures cached --model some/one-step --save-latents cached.latents
same plain cached
pictures commit --model some/one-step --revision $commit --save-latents commit.latents
same plain commit
refuse "no revision 'dev'" --model some/one-step --revision dev
expect 2 "$DRPO" $S --model "$model" --revision main
grep -q "belongs to a repository id" err || broken "$(cat err)"
expect 0 "$DRPO" inspect some/one-step
grep -q "one-step generator" out || broken "inspect of a repository id: $(cat out)"

# an adapter remembers the id, and finds its model by it
train --model some/one-step --steps 1 --eval-every 0 --out run >out 2>err || { cat err >&2; broken "training from the cache"; }
grep -q '"some/one-step"' run/final/adapter_config.json || broken "the adapter does not name its model"
pictures adapted --lora run
rm -rf run

# other names of the weights
copy_model() { rm -rf model && cp -r "$model" model; }
copy_model
for file in model/*/*.safetensors; do mv "$file" "${file%.safetensors}.fp16.safetensors"; done
pictures variant --model model --variant fp16 --save-latents variant.latents
same plain variant
pictures found --model model --save-latents found.latents
same plain found

# what is no model
copy_model
rm -r model/vae
refuse "vae" --model model
copy_model
rm -r model/tokenizer
refuse "tokenizer" --model model
pictures borrowed --model model --tokenizer "$model" --save-latents borrowed.latents
same plain borrowed
pictures named --model model --tokenizer "$model/tokenizer" --save-latents named.latents
same plain named
copy_model
mv model/unet/diffusion_pytorch_model.safetensors model/unet/diffusion_pytorch_model.bin
refuse "a pickle" --model model
copy_model
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n' >model/unet/diffusion_pytorch_model.safetensors
refuse "git-lfs pointer" --model model
copy_model
rm model/model_index.json
refuse "no model_index.json" --model model
refuse "no such folder" --model nowhere
copy_model
sed -i 's/StableDiffusionPipeline/FluxPipeline/' model/model_index.json
refuse "FluxPipeline" --model model
copy_model
sed -i 's/"timestep_spacing": "trailing"/"timestep_spacing": "leading"/' model/scheduler/scheduler_config.json
refuse "timestep_spacing" --model model
