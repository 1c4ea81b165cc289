#!/bin/sh
# What `plan` predicts is what a run then takes, within 5%; what does not fit is refused with what would; encoded prompts
# are kept in a folder, and one that is damaged is made again.
. "$(dirname "$0")/common.sh"

# ---- the prediction: the sanitizers keep books of their own ----
if ! grep -q __asan_init "$LIBDRPO"; then
    same() { # FLAG...: the peak of a run with these flags against its plan, in MiB
        expect 0 train --steps 2 --out run --overwrite "$@"
        peak=$(sed -n 's/.*peak \([0-9]*\) MiB, \([0-9]*\) planned.*/\1/p' err)
        planned=$(sed -n 's/.*peak \([0-9]*\) MiB, \([0-9]*\) planned.*/\2/p' err)
        [ -n "$planned" ] || broken "no record of memory: $(cat err)"
        [ $((100 * planned)) -le $((105 * peak)) ] && [ $((100 * planned)) -ge $((95 * peak)) ] ||
            broken "planned $planned MiB, used $peak MiB: $*"
    }
    same --candidates 16 --eval-every 0
    same --candidates 16 --chunk 4 --eval-every 0
    same --candidates 12 --threads 2 --prompts-per-step 2 --features resnet:tiny-mae
    same --candidates 4 --resolution 128 --lora-rank 64 --reward "plugin:$EXAMPLES/redness.so"
    same --candidates 8 --text-cache kept --eval-every 2
    same --candidates 8 --method dpo --ema 0.9 --eval-every 0
    # networks of rewards: a wide one, which is most of the run, and the small ones of other kinds
    python3 "$SOURCE_DIR/tests/flow/wide_clip.py" wide || broken "no model"
    golden=$SOURCE_DIR/tests/golden
    wide="clipscore:wide?tokenizer=$SOURCE_DIR/tests/fixtures/tiny-turbo&threads=1"
    expect 0 "$DRPO" plan $SMALL --candidates 16 --reward "$wide" --eval-every 0 --steps 2 --json
    rewards=$(awk -F '[:,]' '/"rewards/ { sum += $2 / 1048576 } END { print int(sum) }' out)
    [ "$rewards" -ge 95 ] && [ "$rewards" -le 150 ] || broken "a reward with 100 MB of weights is planned at $rewards MiB"
    same --candidates 16 --reward "$wide" --eval-every 0
    same --candidates 4 --reward scene --eval-reward "$wide" --eval-every 2 --eval-seeds 3
    same --candidates 4 --reward "$wide" --method draft --eval-every 0
    same --candidates 4 --reward "imagereward:$golden/imagereward?threads=1" --reward "hpsv3:$golden/hpsv3?threads=1" --eval-every 0
    expect 1 train --steps 1 --out none --candidates 4 --reward "$wide" --memory 150M --eval-every 0
    grep -q "GiB of memory" err && [ ! -e none ] || broken "150 MB are enough for a reward of 100? $(cat err)"
    # `plan` says before the run what the run says after it
    expect 0 "$DRPO" plan $SMALL --candidates 16 --eval-every 0 --steps 2
    planned=$(awk '/^peak/ { print int($2 + 0.5) }' out)
    expect 0 train --steps 2 --out run --overwrite --candidates 16 --eval-every 0
    peak=$(sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' err)
    [ $((100 * planned)) -le $((105 * peak)) ] && [ $((100 * planned)) -ge $((95 * peak)) ] ||
        broken "plan says $planned MiB, the run used $peak MiB"

    # ---- too little: less is kept, and when that does not suffice, it is refused ----
    expect 0 "$DRPO" plan $SMALL --candidates 16 --eval-every 0 --json
    whole=$(awk -F '[:,]' '/"peak"/ { print int($2) }' out)
    # evaluations need some more
    expect 0 train --steps 1 --out run --overwrite --candidates 16 --eval-every 1 --memory $((whole + 1000000))
    expect 0 train --steps 1 --out run --overwrite --candidates 16 --eval-every 0 --memory $((whole - 40000000))
    grep -q "little memory: [0-9]* MiB .*--memory-budget [0-9]*M" err || broken "less is kept without a word: $(cat err)"
    peak=$(sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' err)
    [ $((peak * 1048576)) -lt $((whole - 30000000)) ] || broken "--memory was not kept: $peak MiB"
fi
# ---- what it does not know is said ----
expect 0 "$DRPO" plan $SMALL --candidates 4 --eval-reward clipscore:somewhere --eval-reward scene
grep -q "^not counted: .*somewhere: no such file" out || broken "nothing is said of the reward's network: $(cat out)"
expect 0 "$DRPO" plan $SMALL --candidates 4
grep -q "not counted" out && broken "something is not counted: $(cat out)"

expect 1 train --steps 1 --out none --memory 60M
grep -q "GiB of memory" err && [ ! -e none ] || broken "60 MB are enough? $(cat err)"
expect 1 "$DRPO" sample --prompt x --out none --memory 60M
grep -q "GiB of memory" err && [ ! -e none ] || broken "60 MB are enough to sample? $(cat err)"
expect 1 train --steps 1 --out none --candidates 64 --chunk 64 --memory 400M
grep -q -- "--chunk [1-9][0-9]* is the largest that fits" err || broken "no chunk is proposed: $(cat err)"
chunk=$(sed -n 's/.*--chunk \([0-9]*\) is the largest.*/\1/p' err)
expect 0 train --steps 1 --out run --overwrite --candidates 64 --chunk "$chunk" --memory 420M --eval-every 0

# ---- encoded prompts ----
S="sample --threads 1 --prompt a_star --prompt a_kite --out"
expect 0 "$DRPO" $S plain --text-cache off
expect 0 "$DRPO" $S first --text-cache texts
grep -q "encoding 2 prompts" err || broken "nothing is said about prompts: $(cat err)"
[ "$(find texts -type f | wc -l)" -eq 2 ] || broken "two prompts made other files: $(find texts)"
expect 0 "$DRPO" $S again --text-cache texts
grep -q "encoding" err && broken "kept prompts were encoded again"
for file in texts/*/*; do # one is changed, one is cut
    [ -e changed ] && { head -c 100 "$file" >cut && cp cut "$file"; continue; }
    cp "$file" changed
    printf '\001' | dd of="$file" bs=1 seek=500 conv=notrunc 2>dd.txt
    cmp -s changed "$file" && printf '\002' | dd of="$file" bs=1 seek=500 conv=notrunc 2>dd.txt
done
expect 0 "$DRPO" $S healed --text-cache texts
grep -q "encoding 2 prompts" err || broken "damage was not noticed: $(cat err)"
expect 0 "$DRPO" $S last --text-cache texts
grep -q "encoding" err && broken "what was damaged was not written again"
for run in first again healed last; do
    for picture in plain/*.png; do
        cmp -s "$picture" "$run/${picture#plain/}" || broken "encoded prompts of run '$run' are not the same"
    done
done
mkdir sealed && chmod 555 sealed
[ -w sealed ] || expect 1 "$DRPO" $S x --text-cache sealed/texts # root may write anywhere
exit 0
