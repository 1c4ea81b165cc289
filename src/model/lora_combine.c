/* Several adapters as one: W x + s1 B1 A1 x + s2 B2 A2 x is one pair of greater rank,
 *
 *     A = [A1; A2],   B = [s1 B1 | s2 B2],   scale 1. */
#include <string.h>

#include "model/lora.h"
#include "model/lora_private.h"

static const LoraPair *pair_of(const Adapter *a, const char *module) {
    for (int i = 0; i < a->n_pair; i++)
        if (strcmp(a->pair[i].module, module) == 0) return &a->pair[i];
    return NULL;
}

/* Modules of `a` that are not in `out` yet, with the rank that both adapters have there together. */
static int register_all(Adapter *out, const Adapter *a, const Adapter *other, Error *err) {
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i], *q = pair_of(other, p->module);
        if (q && (q->in != p->in || q->out != p->out))
            return fail(err, DRPO_E_INPUT, "adapters: module '%s' has two sizes", p->module);
        if (pair_of(out, p->module)) continue;
        TRY(lora_register_pair(out, p->module, p->in, p->out, p->rank + (q ? q->rank : 0), 1, err));
    }
    return 0;
}

/* Puts a pair behind the first `done` ranks of `to`. */
static void put(Adapter *out, LoraPair *to, const LoraPair *from, int done) {
    const float *a = from->a.data, *b = from->b.data;
    memcpy(out->values + to->offset_a + (size_t)done * (size_t)to->in, a,
           (size_t)from->rank * (size_t)from->in * sizeof(float));
    for (int64_t o = 0; o < to->out; o++)
        for (int k = 0; k < from->rank; k++)
            out->values[to->offset_b + (size_t)(o * to->rank + done + k)] = from->scale * b[o * from->rank + k];
}

static int fill(Adapter *out, const Adapter *a, const Adapter *b, Error *err) {
    TRY(register_all(out, a, b, err));
    TRY(register_all(out, b, a, err));
    TRY(lora_allocate(out, err));
    for (int i = 0; i < out->n_pair; i++) {
        const LoraPair *p = pair_of(a, out->pair[i].module), *q = pair_of(b, out->pair[i].module);
        if (p) put(out, &out->pair[i], p, 0);
        if (q) put(out, &out->pair[i], q, p ? p->rank : 0);
        if (out->rank < out->pair[i].rank) out->rank = out->pair[i].rank;
    }
    out->alpha = (float)out->rank;
    return 0;
}

int lora_combine(const Adapter *a, const Adapter *b, Adapter **out, Error *err) {
    if (a->full || b->full)
        return fail(err, DRPO_E_USAGE, "--lora: all weights of a UNet cannot be combined with another adapter");
    Adapter *both = lora_new(1, 1, "", err);
    if (!both) return err->code;
    int code = fill(both, a, b, err);
    if (code < 0)
        lora_free(both);
    else
        *out = both;
    return code;
}
