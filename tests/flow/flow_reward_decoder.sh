#!/bin/sh
# A small decoder in front of the reward: what it changes, what it leaves alone, and how its agreement is reported.
. "$(dirname "$0")/common.sh"
small="$SOURCE_DIR/tests/golden/taesd_random"

redness="--reward plugin:$EXAMPLES/redness.so"
straight="$redness --steps 3 --checkpoint-every 2 --eval-every 2"
# shellcheck disable=SC2086 # options are words
expect 0 train --out small --reward-decoder "taesd:$small" $straight
grep "reward decoder at step" err >said || broken "the agreement is not told: $(cat err)"
[ "$(wc -l <said)" -eq 2 ] || broken "measured in other updates than the first and those before evaluations: $(cat said)"
python3 - <<'PYTHON' || broken "decoder_agreement in metrics.jsonl"
import json
lines = [json.loads(line) for line in open("small/metrics.jsonl")]
assert ["decoder_agreement" in line for line in lines] == [True, True, False], lines
for line in lines[:2]:
    a = line["decoder_agreement"]
    assert set(a) == {"kendall_tau", "same_choice", "same_prompts"}, a
    assert -1 <= a["kendall_tau"] <= 1 and 0 <= a["same_choice"] <= 1 and 0 <= a["same_prompts"] <= 1, a
PYTHON
expect 0 "$DRPO" report small --out small.html
grep -q "small reward decoder" small.html || broken "the report does not show it"

# other pictures, so other scores; people still see those of the full decoder
# shellcheck disable=SC2086
expect 0 train --out full $straight
grep -q "decoder_agreement" full/metrics.jsonl && broken "measured without --reward-decoder"
cmp -s small/eval-000000.png full/eval-000000.png || broken "the grid of the base comes from the small decoder"
cmp -s small/candidates.jsonl full/candidates.jsonl && broken "the reward saw the full decoder's pictures"

# measuring changes nothing; resuming is exact
expect 0 train --out quiet --reward-decoder "taesd:$small" $redness --steps 3 --checkpoint-every 2 --eval-every 0
cmp -s small/candidates.jsonl quiet/candidates.jsonl || broken "measuring changed the run"
expect 0 train --out halves --reward-decoder "taesd:$small" $redness --steps 2 --checkpoint-every 2 --eval-every 2
expect 0 "$DRPO" train --resume latest --out halves --steps 3 --threads 1
same_run small halves
expect 0 "$DRPO" replay small

# the authors' file and pools; verdicts instead of ranks
expect 0 train --out pools --reward-decoder "taesd:$small/taesd_decoder.safetensors" --reward scene-correct --pools --steps 1
grep -q "decoder_agreement" pools/metrics.jsonl || broken "not measured with --pools"

# what cannot be
expect 2 train --out no --reward-decoder "$small"
grep -q "taesd:PATH" err || broken "the form is not told: $(cat err)"
expect 2 train --out no --reward-decoder taesd:/nowhere
grep -q "/nowhere" err || broken "the missing file is not named: $(cat err)"
expect 2 train --out no --reward-decoder "taesd:$SOURCE_DIR/tests/golden/taesd_plain"
grep -q "this model's VAE" err || broken "a decoder of another VAE is taken: $(cat err)"
expect 2 train --out no --method draft --reward scene-smooth --reward-decoder "taesd:$small"
grep -q -- "--method draft" err || broken "draft takes it: $(cat err)"
expect 0 train --out no --dry-run --reward-decoder "taesd:$small"
[ ! -e no ] || broken "something was left behind"
