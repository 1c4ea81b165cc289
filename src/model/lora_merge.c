/* Merging: W' = W + (alpha/r) B A for every adapted layer, written as a UNet file with the names and types of the
 * original. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "model/lora_private.h"
#include "model/weights.h"

/* ---- float32 to the stored type, rounding to nearest even ---- */

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static uint16_t to_bf16(float x) {
    uint32_t u = bits_of(x);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    float magnitude = fabsf(x);
    if (isnan(x)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) return sign | (uint16_t)lrintf(magnitude * 0x1p24f); /* subnormal steps of 2^-24 */
    uint32_t u = bits_of(magnitude) - (112u << 23);                                /* exponent bias 127 -> 15 */
    return sign | (uint16_t)((u + 0xfff + (u >> 13 & 1)) >> 13);
}

static void store(DType t, void *data, size_t i, float value) {
    if (t == DT_F16)
        ((uint16_t *)data)[i] = to_f16(value);
    else if (t == DT_BF16)
        ((uint16_t *)data)[i] = to_bf16(value);
    else if (t == DT_F64)
        ((double *)data)[i] = (double)value;
    else
        ((float *)data)[i] = value;
}

/* ---- one layer ---- */

/* row [in] += scale B[o] A */
static void add_product_row(const LoraPair *p, const float *a, const float *b, int64_t o, float *row) {
    for (int k = 0; k < p->rank; k++) {
        float factor = p->scale * b[o * p->rank + k];
        for (int64_t i = 0; i < p->in; i++) row[i] += factor * a[(int64_t)k * p->in + i];
    }
}

static int merge_layer(const SafeTensor *t, const LoraPair *p, void **merged, const char *path, Error *err) {
    bool fits = t->rank == 2 && t->dim[0] == p->out && t->dim[1] == p->in;
    if (!fits)
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has not the shape that the adapter expects", path, t->name);
    float *row = malloc((size_t)p->in * sizeof *row);
    *merged = malloc(t->bytes);
    if (!row || !*merged) {
        free(row);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory while merging '%s'", path, t->name);
    }
    bool finite = true;
    for (int64_t o = 0; o < p->out; o++) {
        size_t first = (size_t)(o * p->in);
        dtype_to_f32(t->dtype, t->data, first, (size_t)p->in, row);
        add_product_row(p, p->a.data, p->b.data, o, row);
        for (int64_t i = 0; i < p->in; i++) {
            finite = finite && isfinite(row[i]) && (t->dtype != DT_F16 || fabsf(row[i]) < 65520.0f);
            store(t->dtype, *merged, first + (size_t)i, row[i]);
        }
    }
    free(row);
    if (!finite)
        return fail(err, DRPO_E_NUMERIC, "%s: '%s' leaves the range of %s when merged", path, t->name,
                    dtype_name(t->dtype));
    return 0;
}

/* ---- the file ---- */

static const LoraPair *pair_of(const Adapter *a, const char *tensor) {
    for (int i = 0; i < a->n_pair; i++) {
        size_t length = strlen(a->pair[i].module);
        if (strncmp(tensor, a->pair[i].module, length) == 0 && strcmp(tensor + length, ".weight") == 0)
            return &a->pair[i];
    }
    return NULL;
}

static int merge_all(const Weights *w, const Adapter *a, SafeTensor *tensor, void **merged, const char *path,
                     Error *err) {
    int found = 0;
    for (size_t i = 0; i < weights_count(w); i++) {
        tensor[i] = *weights_at(w, i);
        const LoraPair *p = pair_of(a, tensor[i].name);
        if (!p) continue;
        TRY(merge_layer(&tensor[i], p, &merged[i], path, err));
        tensor[i].data = merged[i];
        found++;
    }
    if (found == a->n_pair) return 0;
    return fail(err, DRPO_E_INPUT, "%s: has weights for %d of the adapter's %d layers", weights_path(w), found,
                a->n_pair);
}

int lora_merge_file(const Weights *w, const Adapter *a, const char *path, Error *err) {
    size_t n = weights_count(w);
    SafeTensor *tensor = calloc(n + 1, sizeof *tensor);
    void **merged = calloc(n + 1, sizeof *merged);
    int code = tensor && merged ? merge_all(w, a, tensor, merged, path, err)
                                : fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    if (code == 0) code = safetensors_write(path, tensor, n, NULL, 0, err);
    for (size_t i = 0; merged && i < n; i++) free(merged[i]);
    free(merged);
    free(tensor);
    return code;
}
