#!/bin/sh
# Pictures repeat by seed, replay from noise, and are the same from every form an adapter is exported to.
. "$(dirname "$0")/common.sh"
S="sample --threads 1 --prompt"

expect 0 "$DRPO" $S "a photo of a star" --n 3 --out a --save-latents a.safetensors
expect 0 "$DRPO" $S "a photo of a star" --n 3 --out b
expect 0 "$DRPO" $S "a photo of a star" --seed 44 --out c.png
[ "$(wc -l <a/manifest.jsonl)" -eq 3 ] || broken "manifest.jsonl has not one line per picture"
cmp -s a/00000-42.png b/00000-42.png || broken "one seed gave two pictures"
cmp -s a/00000-44.png c.png || broken "picture 2 of seed 42 is not picture 0 of seed 44"
cmp -s a/00000-42.png a/00000-43.png && broken "two seeds gave one picture"
grep -q "Steps: 1, Sampler: Euler" a/00000-42.png || broken "no parameters in the PNG"

expect 0 "$DRPO" $S "a photo of a star" --n 2 --out j --json
[ "$(wc -l <out)" -eq 1 ] && grep -q '"pictures": \["j/00000-42.png", "j/00000-43.png"\], "opened_seconds": [0-9.e-]*, "start_seconds": [0-9.e-]*, "seconds": [0-9]' out ||
    broken "sample --json: $(cat out)"
sed 's/.*"opened_seconds": \([^,]*\), "start_seconds": \([^,]*\), "seconds": \([^,]*\),.*/\1 \2 \3/' out | awk '!(0 < $1 && $1 <= $2 && $2 < $3) { exit 1 }' ||
    broken "seconds do not rise: $(cat out)"

# the latents file holds its noise too
expect 0 "$DRPO" $S "a photo of a star" --n 3 --noise a.safetensors --out d --save-latents d.safetensors
cmp -s a.safetensors d.safetensors || broken "the same noise gave other latents"

# the empty prompt is a prompt; one that is too long is announced once
expect 0 "$DRPO" $S "" --out empty.png
grep -q "Steps: 1" empty.png || broken "no picture of the empty prompt"
expect 0 "$DRPO" $S "$(printf 'a red star and %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)" --out long.png
[ "$(grep -c 'their ends are ignored' err)" -eq 1 ] || broken "no warning for a prompt that is cut: $(cat err)"

# batches do not matter
expect 0 "$DRPO" $S "a photo of a star" --n 3 --batch 2 --out e --save-latents e.safetensors
cmp -s a/00000-44.png e/00000-44.png || broken "the size of a batch changed a picture"

expect 0 train --out run --steps 3 --lr 0.02 --eval-every 0
expect 0 "$DRPO" $S "a photo of a star" --n 2 --lora run --out t --save-latents t.safetensors
cmp -s a/00000-42.png t/00000-42.png && broken "the adapter changes nothing"
expect 0 "$DRPO" $S "a photo of a star" --n 2 --lora run:0 --out z
grep -q "Lora hashes" z/00000-42.png || broken "no LoRA hash in the PNG"
for format in peft diffusers kohya; do
    case $format in peft) out=x-peft ;; *) out=x-$format.safetensors ;; esac
    expect 0 "$DRPO" export run --format $format --out $out
    expect 0 "$DRPO" $S "a photo of a star" --n 2 --lora $out --out s-$format --save-latents s.safetensors
    cmp -s t.safetensors s.safetensors || broken "exported as $format, the adapter gives other latents"
done
# their cards: none takes the place of a README.md
grep -q "^library_name: peft" x-peft/README.md && grep -q "PeftModel" x-peft/README.md || broken "x-peft has no card"
grep -q "^library_name: diffusers" README.md && grep -q 'weight_name="x-diffusers.safetensors"' README.md ||
    broken "no card beside x-diffusers.safetensors"
grep -q "## Hashes" README.md && [ "$(grep -c '## Use' README.md)" -eq 1 ] || broken "the card is not the run's"
expect 0 "$DRPO" export run --format kohya --out x-kohya.safetensors
grep -q "README.md; the model card was not written" err || broken "nothing is said of the README.md that stays"
mkdir cards
expect 0 "$DRPO" export run --format kohya --out cards/k.safetensors
grep -q 'put `k.safetensors` into' cards/README.md || broken "no card beside cards/k.safetensors"
# two adapters are added (by how much: test_lora_combine)
expect 0 "$DRPO" $S "a photo of a star" --lora run:0.5 --out half.png --save-latents half.safetensors
expect 0 "$DRPO" $S "a photo of a star" --lora run:0.5 --lora run:0.5 --out sum.png --save-latents sum.safetensors
cmp -s sum.safetensors half.safetensors && broken "the second adapter adds nothing"
grep -q 'Lora hashes: "run: [0-9a-f]*, run: [0-9a-f]*"' sum.png || broken "the PNG does not name both adapters"
expect 2 "$DRPO" $S "a photo of a star" --lora run --lora nowhere --out x.png
grep -q "nowhere" err || broken "a missing second adapter is not named: $(cat err)"
expect 0 "$DRPO" export run --format merged --out merged
expect 0 "$DRPO" $S "a photo of a star" --n 2 --model merged --out m
expect 2 "$DRPO" export run --format merged --out merged
expect 2 "$DRPO" export run --format merged --model merged --out merged/inside
[ ! -e merged/inside ] && [ ! -e merged/inside.tmp ] || broken "a refused export left files"

# an adapter starts another run
expect 0 train --out second --steps 1 --lora-init run --eval-every 0 --dump-gradients g.safetensors
expect 0 "$DRPO" inspect g.safetensors
grep -q "lora_A.weight" out || broken "no gradients: $(cat out)"
for thing in run run/final merged a.safetensors tiny-turbo; do
    expect 0 "$DRPO" inspect $thing
    [ -s out ] || broken "inspect $thing says nothing"
done

# scores of what was sampled
head -3 "$SOURCE_DIR/assets/prompts/test.jsonl" >p.jsonl
expect 0 "$DRPO" sample --threads 1 --prompts p.jsonl --n 2 --out p
expect 0 "$DRPO" score --reward scene --reward scene-correct --manifest p/manifest.jsonl
[ "$(grep -c '"reward":' out)" -eq 6 ] || broken "not one score per picture: $(cat out)"
