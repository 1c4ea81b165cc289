#!/bin/sh
# The same scores through every kind of black box give the same adapter, to the byte; a reward that fails is skipped and
# counted, or stops the run; held-out rewards are measured and change nothing.
. "$(dirname "$0")/common.sh"

no_proxy='*' OMP_NUM_THREADS=1
export no_proxy OMP_NUM_THREADS
rewards=$SOURCE_DIR/examples/rewards
faulty="python3 $SOURCE_DIR/tests/step/faulty_worker.py"

# ---- one reward, every way ----
python3 "$rewards/redness_server.py" 0 >server.txt &
server=$!
trap 'kill $server; rm -rf "$here"' EXIT
for wait in $(seq 200); do
    [ -s server.txt ] && break
    sleep 0.1
done
url=$(cat server.txt)

same() { # same NAME SPEC: an adapter and scores like those of the first
    expect 0 train --candidates 5 --steps 2 --eval-every 0 --out "$1" --reward "$2"
    expect 0 "$DRPO" score --reward "$2" --manifest pictures/manifest.jsonl
    mv out "$1.scores"
    for file in final/adapter_model.safetensors; do
        cmp -s "python/$file" "$1/$file" || broken "$1 gives another $file"
    done
    cmp -s python.scores "$1.scores" || { diff python.scores "$1.scores" >&2; broken "$1 scores pictures differently"; }
}
expect 0 "$DRPO" sample --prompt "a photo of a red circle" --prompt "a star" --n 2 --threads 1 --out pictures
same python "exec:python3 $rewards/redness.py?images=rgb&name=red"
same workers "exec:python3 $rewards/redness.py?images=rgb&name=red&workers=3&batch=1"
same shell "exec:sh $rewards/redness.sh?images=rgb&name=red"
same plugin "plugin:$EXAMPLES/redness.so?name=red"
same server "$url?images=rgb&name=red"
same connections "$url?images=rgb&name=red&workers=2&batch=2"
grep -q '"rewards":{"red":' python.scores || broken "no scores: $(cat python.scores)"
cmp -s python/final/adapter_model.safetensors workers/metrics.jsonl && broken "cmp finds everything equal"

# the callback, in the example program, which has other options
expect 0 "$EXAMPLES/example_train" callback 2
expect 0 "$DRPO" train --out like-callback --steps 2 --candidates 8 --prompts-per-step 4 --eval-every 0 \
    --reward "exec:python3 $rewards/redness.py?images=rgb"
cmp -s callback/final/adapter_model.safetensors like-callback/final/adapter_model.safetensors ||
    broken "callback and exec give different adapters"

# other forms of pictures, other examples
expect 0 train --steps 1 --eval-every 0 --out simple --reward "exec:sh $rewards/simple.sh?images=paths"
if python3 -c 'import numpy' 2>/dev/null; then
    expect 0 train --steps 1 --eval-every 0 --out warm --reward "exec:python3 $rewards/warm.py?images=rgb"
fi

# ---- faults ----
field() { sed "s/.*\"$2\": *//; s/[,}].*//" "$1" | tr '\n' ' '; }
finite() {
    ! tr -d ' ' <"$1/metrics.jsonl" | grep -qiE 'nan|inf' || broken "$1/metrics.jsonl: $(cat "$1/metrics.jsonl")"
    python3 - "$1/final/adapter_model.safetensors" <<'END_PYTHON' || broken "$1 has weights that are not finite"
import json, math, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
body = data[8 + size:]
values = struct.unpack(f"<{len(body) // 4}f", body)
assert values and all(math.isfinite(x) for x in values) and any(x != 0 for x in values)
END_PYTHON
}
mkdir one two three four
options="images=rgb&backoff=0.01&timeout=3&ready_timeout=60"
expect 0 train --steps 4 --eval-every 0 --out skipping --on-reward-error skip \
    --reward "exec:$faulty exec $here/one ok,nan,crash,few,malformed,huge,error,ok?$options"
[ "$(field skipping/metrics.jsonl prompts_failed)" = "0 1 1 0 " ] || broken "failed: $(field skipping/metrics.jsonl prompts_failed)"
[ "$(field skipping/metrics.jsonl reward_faults)" = "0 3 3 0 " ] || broken "faults: $(field skipping/metrics.jsonl reward_faults)"
grep -q "exec.*is skipped" err || broken "does not say what was skipped: $(cat err)"
grep -q "not scored" err || grep -q "not scored" out || broken "the progress line does not tell: $(cat err)"
finite skipping
expect 0 "$DRPO" report skipping
expect 0 train --steps 3 --eval-every 0 --out retrying --reward "exec:$faulty exec $here/two inf,killed,ok,none,ok?$options"
[ "$(field retrying/metrics.jsonl prompts_failed)" = "0 0 0 " ] || broken "a retry that was answered counts as failed"
[ "$(field retrying/metrics.jsonl reward_faults)" = "2 1 0 " ] || broken "faults: $(field retrying/metrics.jsonl reward_faults)"
finite retrying
expect 1 train --steps 3 --eval-every 0 --out stopping --reward "exec:$faulty exec $here/three ok,many,nan,text,ok?$options"
grep -q "exec.*score 1 of 4 is not a finite number.*(3 attempts)" err || broken "stops without naming the fault: $(cat err)"
[ -d stopping/checkpoint-1 ] || broken "what was learnt before the fault is lost"
expect 1 train --steps 2 --eval-every 0 --out refused --reward "http://127.0.0.1:1/?backoff=0.01"
grep -q "http://127.0.0.1:1/" err || broken "does not name the URL: $(cat err)"
expect 1 train --steps 50 --eval-every 0 --out hopeless --on-reward-error skip --reward "http://127.0.0.1:1/?retries=0"
grep -q "20 prompts in a row" err || broken "never gives up: $(cat err)"
expect 0 "$DRPO" score --on-reward-error skip --reward "exec:$faulty exec $here/four ok,crash,ok?$options&retries=0" \
    --manifest pictures/manifest.jsonl
[ "$(grep -c '"reward":null,"error":"reward exec' out)" -eq 1 ] && [ "$(wc -l <out)" -eq 4 ] || broken "score: $(cat out)"

# an evaluation leaves out, for both models, what could not be scored for one: prompt 1 of the base, prompt 3 of the tuned
mkdir five six
faults="ok,crash,ok,ok,ok,ok,nan,ok"
expect 0 "$DRPO" eval --lora skipping --out skipped --eval-limit 4 --seeds 2 --threads 1 --on-reward-error skip \
    --reward "exec:$faulty exec $here/five $faults?$options&retries=0"
grep -q "2 prompts, 4 images each" out && grep -q "2 prompts left out" out || broken "eval: $(cat out)"
[ "$(grep -c '"failed":true' skipped/scores.jsonl)" -eq 2 ] || broken "scores.jsonl: $(cat skipped/scores.jsonl)"
python3 -c 'import json; t = json.load(open("skipped/table.json")); assert (t["prompts"], t["images"], t["prompts_failed"]) == (2, 4, 2), t' ||
    broken "table.json: $(cat skipped/table.json)"
cp -r skipped skipping/eval
expect 0 "$DRPO" report skipping
grep -q "2 prompts are left out" skipping/report.html || broken "the report does not count what was left out"
expect 1 "$DRPO" eval --lora skipping --out stopped --eval-limit 4 --seeds 2 --threads 1 --reward "exec:$faulty exec $here/six $faults?$options&retries=0"
[ ! -e stopped/table.json ] || broken "eval went on after a fault"
expect 1 "$DRPO" eval --eval-limit 3 --seeds 1 --threads 1 --on-reward-error skip --reward "http://127.0.0.1:1/?retries=0"
grep -q "none of the 3 prompts could be scored" err || broken "a table of nothing: $(cat err)"

# ---- pictures of one prompt and one size are one request; a fault among them is found picture by picture ----
cat >counting.py <<'END'
import json, sys
for line in sys.stdin:
    n = json.loads(line)["count"]
    open("counts", "a").write(f"{n}\n")
    print(json.dumps({"error": "too many"} if len(sys.argv) > 1 and n > 1 else {"scores": [0.5] * n}), flush=True)
END
expect 0 "$DRPO" sample --prompt "a star" --n 1 --threads 1 --resolution 128 --out larger
set -- pictures/*.png
expect 0 "$DRPO" score --reward "exec:python3 counting.py?images=rgb" --prompt x "$1" "$2" "$3" larger/*.png "$4"
[ "$(tr '\n' ' ' <counts)" = "3 1 1 " ] && [ "$(grep -c '"reward":0.5' out)" -eq 5 ] || broken "requests: $(cat counts)"
rm counts
expect 0 "$DRPO" score --on-reward-error skip --reward "exec:python3 counting.py 1?images=rgb&retries=0" --prompt x "$1" "$2"
[ "$(tr '\n' ' ' <counts)" = "2 1 1 " ] && [ "$(grep -c '"reward":0.5' out)" -eq 2 ] || broken "one by one: $(cat counts)"
rm counts
expect 2 "$DRPO" score --reward "exec:python3 counting.py?images=rgb" --prompt x "$1" "$2" nowhere.png
[ "$(cat counts)" = 2 ] && [ "$(wc -l <out)" -eq 2 ] || broken "pictures before the missing one: $(cat out)"

# ---- a native model ----
clip=$SOURCE_DIR/tests/golden/clip_model
expect 0 "$DRPO" score --reward "clipscore:$clip?tokenizer=$SOURCE_DIR/tests/fixtures/tiny-turbo" \
    --reward "aesthetic:$clip?head=$clip/head.pth@0.5" --manifest pictures/manifest.jsonl
[ "$(grep -c '"rewards":{"clipscore":-*0.*,"aesthetic":' out)" -eq 4 ] || broken "no scores: $(cat out)"
expect 0 train --steps 1 --eval-every 0 --candidates 4 --out native \
    --reward "pickscore:$clip?tokenizer=$SOURCE_DIR/tests/fixtures/tiny-turbo"

# ---- held-out rewards ----
expect 0 train --steps 2 --eval-every 1 --out plain --reward scene
expect 0 train --steps 2 --eval-every 1 --out measured --reward scene --eval-reward scene-correct \
    --eval-reward "plugin:$EXAMPLES/redness.so"
cmp -s plain/final/adapter_model.safetensors measured/final/adapter_model.safetensors || broken "measuring changes the adapter"
grep -q '"heldout": *{"scene_correct": *{"base":' measured/eval.jsonl || broken "not measured: $(cat measured/eval.jsonl)"
grep -q 'held-out plugin_redness' err || broken "not told: $(cat err)"
expect 0 "$DRPO" report measured
grep -q "Held-out rewards" measured/report.html && grep -q "plugin_redness" measured/report.html || broken "not in the report"
expect 0 "$DRPO" eval --eval-limit 2 --seeds 2 --threads 1 --lora measured --eval-reward scene-correct --eval-reward scene
grep -q "^scene_correct" out && grep -q "^scene_heldout" out || broken "not in the table: $(cat out)"
expect 2 train --eval-reward scene@2 --out weighted
grep -q "only measured" err || broken "$(cat err)"

# ---- how long they take ----
expect 0 "$DRPO" bench reward --reward scene --reward "plugin:$EXAMPLES/redness.so" --resolution 64 --candidates 3 --steps 1 --json
grep -q '"reward":"scene","pictures":3,"side":64,.*"scores":\[[01].[0-9]*,' out && grep -q '"plugin_redness"' out || broken "bench reward: $(cat out)"

expect 0 "$DRPO" rewards
for kind in scene scene-correct exec: http: https: plugin: callback:; do
    grep -q "^$kind" out || broken "'drpo rewards' does not list $kind"
done
expect 0 "$DRPO" rewards --json
grep -q '"licence"' out || broken "rewards --json: $(head -5 out)"
