#!/bin/sh
# --dtype bf16: a run, what it remembers, its memory as planned, pictures beside those of float32; --exact; refusals.
. "$(dirname "$0")/common.sh"

# ---- where there is none ----
refused() { # refused WORD COMMAND...
    word=$1
    shift
    expect 2 "$@"
    grep -q -- "--dtype bf16" err && grep -q -- "$word" err || broken "it is not said what is wrong: $(cat err)"
}
refused AVX-512 env ONEDNN_MAX_CPU_ISA=AVX2 "$DRPO" sample --prompt x --out none --dtype bf16
refused double "$DRPO" sample --prompt x --out none --dtype bf16 --backend ref
refused full train --steps 1 --out none --dtype bf16 --train full
[ ! -e none ] || broken "a refused command left something"
expect 0 env ONEDNN_MAX_CPU_ISA=AVX2 "$DRPO" doctor
grep -q "^ok  *bfloat16 .*refused" out || broken "doctor does not know: $(cat out)"
expect 0 env ONEDNN_MAX_CPU_ISA=AVX2 "$DRPO" sample --prompt x --out narrow --dtype auto

expect 0 "$DRPO" doctor
grep -q "^ok  *bfloat16 .*auto" out || { [ "$(grep -c "^ok  *bfloat16" out)" -eq 1 ] && exit 77; broken "$(cat out)"; }
grep -q "^ok  *bfloat16 .*float32" out && exit 77 # emulated: the same code, but slow

# ---- a run remembers it ----
expect 0 train --out run --steps 2 --checkpoint-every 1 --eval-every 0 --dtype bfloat16
grep -q "^dtype: bf16" run/config.yaml || broken "config.yaml does not say it"
expect 0 train --out plain --steps 2 --checkpoint-every 1 --eval-every 0
cmp -s run/final/adapter_model.safetensors plain/final/adapter_model.safetensors && broken "it makes no difference"
expect 0 train --out halves --steps 1 --checkpoint-every 1 --eval-every 0 --dtype bf16
expect 0 "$DRPO" train --resume latest --out halves --steps 2 --threads 1
same_run run halves
expect 2 "$DRPO" train --resume latest --out halves --steps 3 --dtype f32
grep -q -- "--dtype" err || broken "the changed option is not named: $(cat err)"

# ---- memory ----
for dtype in f32 bf16; do
    expect 0 "$DRPO" plan $SMALL --candidates 16 --eval-every 0 --dtype $dtype --exact
    grep -q "^products  *$dtype$" out || broken "plan does not say what it plans: $(cat out)"
done
if ! grep -q __asan_init "$LIBDRPO"; then # the sanitizers keep books of their own
    for exact in --no-exact --exact; do
        expect 0 train --out sized --overwrite --steps 1 --candidates 16 --eval-every 0 --dtype bf16 $exact
        peak=$(sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' err)
        planned=$(sed -n 's/.* MiB, \([0-9]*\) planned.*/\1/p' err)
        [ $((100 * planned)) -le $((105 * peak)) ] && [ $((100 * planned)) -ge $((95 * peak)) ] ||
            broken "planned $planned MiB, used $peak MiB"
    done
fi

# ---- pictures ----
S="sample --threads 1 --prompt a_red_star --seed 3 --out"
for dtype in f32 bf16; do expect 0 "$DRPO" $S pictures-$dtype --dtype $dtype; done
expect 0 "$DRPO" $S pictures-exact --exact
cmp -s pictures-f32/*.png pictures-bf16/*.png && broken "nothing was rounded"
python3 - pictures-f32/*.png pictures-bf16/*.png pictures-exact/*.png <<'END_PYTHON' || broken "pictures differ too much"
import struct, sys, zlib
def read(path):
    data, at, packed = open(path, "rb").read(), 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR": width, height = struct.unpack(">II", body[:8])
        if kind == b"IDAT": packed += body
        at += 12 + size
    raw, stride, rows, above = zlib.decompress(packed), 3 * width, [], bytes(3 * width)
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for i in range(stride):
            a, b, c = (row[i - 3] if i > 2 else 0), above[i], (above[i - 3] if i > 2 else 0)
            near = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, near)[kind]) % 256
        rows.append(bytes(row))
        above = bytes(row)
    return b"".join(rows)
plain, rounded, exact = map(read, sys.argv[1:])
mean = lambda x: sum(abs(p - q) for p, q in zip(plain, x)) / len(plain)
print(mean(rounded), mean(exact))
sys.exit(not (mean(rounded) < 1 and mean(exact) < 0.01))
END_PYTHON

# ---- what it costs ----
expect 0 "$DRPO" bench step --threads 1 --candidates 4 --positives 1 --negatives 1 --steps 1 --dtype bf16 --json
grep -q '"dtype": "bf16"' out || broken "bench does not say it: $(cat out)"
expect 0 "$DRPO" bench op --only "tiny linear 48" --threads 1 --dtype bf16 --json
exit 0
