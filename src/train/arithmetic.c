/* Arithmetic: what --dtype and --exact ask of the cpu backend. See session.h.
 *
 * auto takes bfloat16 only where AMX multiplies it: elsewhere it was measured to be slower than float32
 * (docs/performance.md). */
#include "train/session.h"

enum { DTYPE_AUTO, DTYPE_F32, DTYPE_BF16 }; /* as --dtype lists them */

/* What has no layers that could be rounded. */
static bool is_float32_only(const Config *c) {
    bool full = config_has(c, OPT_TRAINED) && config_choice(c, OPT_TRAINED) == 1;
    return full || (config_has(c, OPT_BACKEND) && config_choice(c, OPT_BACKEND) == 1);
}

static bool auto_rounds(const Config *c, Bf16Unit unit) { return unit == BF16_TILES && !is_float32_only(c); }

static int check_bf16(const Config *c, Bf16Unit unit, Error *err) {
    if (config_has(c, OPT_BACKEND) && config_choice(c, OPT_BACKEND) == 1)
        return fail(err, DRPO_E_USAGE, "--dtype bf16 has no part in --backend ref, which computes in double precision");
    if (is_float32_only(c))
        return fail(err, DRPO_E_USAGE, "--dtype bf16 is not for --train full, whose weights change and stay float32");
    if (unit != BF16_NONE) return 0;
    return fail(err, DRPO_E_INPUT,
                "--dtype bf16: this processor has no AVX-512, or ONEDNN_MAX_CPU_ISA forbids it, and there is no "
                "bfloat16 without; use --dtype f32");
}

int session_arithmetic(const Config *c, Bf16Unit unit, CpuOptions *out, Error *err) {
    int dtype = config_has(c, OPT_DTYPE) ? config_choice(c, OPT_DTYPE) : DTYPE_F32;
    out->exact = config_has(c, OPT_EXACT) && config_bool(c, OPT_EXACT);
    out->bf16 = dtype == DTYPE_BF16 || (dtype == DTYPE_AUTO && auto_rounds(c, unit));
    return dtype == DTYPE_BF16 ? check_bf16(c, unit, err) : 0;
}

int session_settle_dtype(Config *c, Bf16Unit unit, Error *err) {
    if (config_choice(c, OPT_DTYPE) != DTYPE_AUTO || !auto_rounds(c, unit)) return 0;
    ConfigSource source = config_source(c, OPT_DTYPE);
    return config_set(c, "dtype", source == SOURCE_RUN ? "f32" : "bf16", source, err);
}
