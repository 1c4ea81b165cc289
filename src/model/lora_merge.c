/* Merging: W' = W + (alpha/r) B A for every adapted layer, written as a UNet file or a checkpoint with the names and
 * types of the original, then read back and compared. */
#include "model/lora_merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/store.h"
#include "model/weights.h"

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
            dtype_store(t->dtype, *merged, first + (size_t)i, row[i]);
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

static int merge_all(const MergeList *l, const Adapter *a, SafeTensor *tensor, void **merged, const char *path,
                     Error *err) {
    int found = 0;
    for (size_t i = 0; i < l->n; i++) {
        tensor[i] = l->tensor[i];
        const LoraPair *p = l->name[i] ? pair_of(a, l->name[i]) : NULL;
        if (!p) continue;
        TRY(merge_layer(&tensor[i], p, &merged[i], path, err));
        tensor[i].data = merged[i];
        found++;
    }
    if (found == a->n_pair) return 0;
    return fail(err, DRPO_E_INPUT, "%s: has weights for %d of the adapter's %d layers", l->from, found, a->n_pair);
}

/* ---- reading back ---- */

/* What a stored value may be off by, relative to itself; F16 has steps of 2^-24 below its smallest exponent. */
static double half_step(DType t) { return t == DT_F16 ? 0x1.04p-11 : t == DT_BF16 ? 0x1.04p-8 : 0x1p-22; }

typedef struct RowCheck {
    const LoraPair *pair;
    float *before, *after; /* [in] */
    double *wanted;        /* [in] W + scale B A */
    double *largest;       /* [rank] of |A|, which bounds what float32 sums may lose */
} RowCheck;

/* Row o of the file is W + scale B A, rounded once. */
static bool row_agrees(const RowCheck *c, DType type, int64_t o) {
    const LoraPair *p = c->pair;
    const float *a = p->a.data, *b = p->b.data;
    double terms = 0;
    for (int64_t i = 0; i < p->in; i++) c->wanted[i] = (double)c->before[i];
    for (int k = 0; k < p->rank; k++) {
        double factor = (double)p->scale * (double)b[o * p->rank + k];
        terms += fabs(factor) * c->largest[k];
        for (int64_t i = 0; i < p->in; i++) c->wanted[i] += factor * (double)a[(int64_t)k * p->in + i];
    }
    double least = type == DT_F16 ? 0x1.04p-25 : 0, relative = half_step(type);
    for (int64_t i = 0; i < p->in; i++) {
        double lost = 0x1p-22 * (fabs((double)c->before[i]) + terms);
        if (!(fabs((double)c->after[i] - c->wanted[i]) <= relative * fabs(c->wanted[i]) + lost + least)) return false;
    }
    return true;
}

static bool layer_agrees(const RowCheck *c, const SafeTensor *before, const SafeTensor *after) {
    const LoraPair *p = c->pair;
    const float *a = p->a.data;
    for (int k = 0; k < p->rank; k++) {
        c->largest[k] = 0;
        for (int64_t i = 0; i < p->in; i++)
            c->largest[k] = fmax(c->largest[k], fabs((double)a[(int64_t)k * p->in + i]));
    }
    for (int64_t o = 0; o < p->out; o++) {
        size_t first = (size_t)(o * p->in);
        dtype_to_f32(before->dtype, before->data, first, (size_t)p->in, c->before);
        dtype_to_f32(after->dtype, after->data, first, (size_t)p->in, c->after);
        if (!row_agrees(c, before->dtype, o)) return false;
    }
    return true;
}

static int check_layer(const LoraPair *p, const SafeTensor *before, const SafeTensor *after, bool *agrees, Error *err) {
    RowCheck c = {.pair = p};
    c.before = malloc((size_t)p->in * 2 * sizeof *c.before);
    c.wanted = malloc(((size_t)p->in + (size_t)p->rank) * sizeof *c.wanted);
    if (c.before && c.wanted) {
        c.after = c.before + p->in;
        c.largest = c.wanted + p->in;
        *agrees = layer_agrees(&c, before, after);
    }
    int code = c.before && c.wanted ? 0 : fail(err, DRPO_E_MEMORY, "out of memory while checking '%s'", before->name);
    free(c.before);
    free(c.wanted);
    return code;
}

static bool same_kind(const SafeTensor *x, const SafeTensor *y) {
    return x->dtype == y->dtype && x->rank == y->rank && x->bytes == y->bytes &&
           memcmp(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim) == 0;
}

static int check_tensors(const MergeList *l, const Adapter *a, const SafeFile *f, Error *err) {
    for (size_t i = 0; i < l->n; i++) {
        const SafeTensor *before = &l->tensor[i], *after = safetensors_find(f, before->name);
        const LoraPair *p = l->name[i] ? pair_of(a, l->name[i]) : NULL;
        bool agrees = after && same_kind(before, after);
        if (agrees && !p) agrees = memcmp(before->data, after->data, before->bytes) == 0;
        if (agrees && p) TRY(check_layer(p, before, after, &agrees, err));
        if (!agrees)
            return fail(err, DRPO_E_IO, "%s: '%s' reads back as something else than was written; is the disk sound?",
                        safetensors_path(f), before->name);
    }
    return 0;
}

int lora_merge_check(const MergeList *l, const Adapter *a, const char *path, Error *err) {
    SafeFile *f;
    TRY(safetensors_open(path, &f, err));
    int code = safetensors_count(f) == l->n ? check_tensors(l, a, f, err)
                                            : fail(err, DRPO_E_IO, "%s: reads back with %zu tensors, %zu were written",
                                                   path, safetensors_count(f), l->n);
    safetensors_close(f);
    return code;
}

/* ---- the whole ---- */

int lora_merge_list(const MergeList *l, const Adapter *a, const char *path, Error *err) {
    SafeTensor *tensor = calloc(l->n + 1, sizeof *tensor);
    void **merged = calloc(l->n + 1, sizeof *merged);
    int code = tensor && merged ? merge_all(l, a, tensor, merged, path, err)
                                : fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    if (code == 0) code = safetensors_write(path, tensor, l->n, l->metadata, l->pairs, err);
    for (size_t i = 0; merged && i < l->n; i++) free(merged[i]);
    free(merged);
    free(tensor);
    return code == 0 ? lora_merge_check(l, a, path, err) : code;
}

int lora_merge_file(const Weights *w, const Adapter *a, const char *path, Error *err) {
    size_t n = weights_count(w);
    SafeTensor *tensor = calloc(n + 1, sizeof *tensor);
    const char **name = calloc(n + 1, sizeof *name);
    int code = tensor && name ? 0 : fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < n && code == 0; i++) {
        tensor[i] = *weights_at(w, i);
        name[i] = tensor[i].name;
    }
    const MergeList l = {.tensor = tensor, .name = name, .n = n, .from = weights_path(w)};
    if (code == 0) code = lora_merge_list(&l, a, path, err);
    free(tensor);
    free(name);
    return code;
}
