/* The adapter itself: which modules, where their values lie, how they start. Reading and writing files: lora_read.c,
 * lora_write.c. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "model/lora_private.h"
#include "model/weights.h"

/* "to_q,to_k" -> {"to_q", "to_k", NULL}; an empty list means every linear layer. The strings share one block with the
 * array. */
static char **split_targets(const char *text) {
    if (!text || strcmp(text, "all-linear") == 0) text = "";
    size_t length = strlen(text), most = 1;
    for (size_t i = 0; i < length; i++) most += text[i] == ',';
    char **list = calloc(1, (most + 1) * sizeof *list + length + 1);
    if (!list) return NULL;
    char *copy = (char *)(list + most + 1), *state = NULL;
    memcpy(copy, text, length + 1);
    size_t n = 0;
    for (char *part = strtok_r(copy, ", ", &state); part; part = strtok_r(NULL, ", ", &state)) list[n++] = part;
    return list;
}

Adapter *lora_new(int rank, float alpha, const char *targets_comma_separated, Error *err) {
    if (rank < 1) {
        fail(err, DRPO_E_USAGE, "LoRA rank %d: must be at least 1", rank);
        return NULL;
    }
    if (!isfinite(alpha) || alpha <= 0) {
        fail(err, DRPO_E_USAGE, "LoRA alpha %g: must be a positive number", (double)alpha);
        return NULL;
    }
    Adapter *a = calloc(1, sizeof *a);
    if (a) a->targets = split_targets(targets_comma_separated);
    if (!a || !a->targets) {
        free(a);
        fail(err, DRPO_E_MEMORY, "LoRA: out of memory");
        return NULL;
    }
    a->rank = rank;
    a->alpha = alpha;
    return a;
}

void lora_free(Adapter *a) {
    if (!a) return;
    for (int i = 0; i < a->n_pair; i++) free(a->pair[i].module);
    free(a->pair);
    weights_free(a->full);
    free(a->values);
    free(a->targets);
    free(a);
}

bool lora_is_target(const Adapter *a, const char *module) {
    if (!a->targets[0]) return true;
    for (char **t = a->targets; *t; t++)
        if (lora_names_module(*t, module)) return true;
    return false;
}

LoraPair *lora_find(Adapter *a, const char *module) {
    for (int i = 0; i < a->n_pair; i++)
        if (strcmp(a->pair[i].module, module) == 0) return &a->pair[i];
    return NULL;
}

int lora_register_pair(Adapter *a, const char *module, int64_t in, int64_t out, int rank, float scale, Error *err) {
    const LoraPair *known = lora_find(a, module);
    if (known && known->in == in && known->out == out) return 0; /* a second graph of the same network */
    if (known || a->values)
        return fail(err, DRPO_E_INTERNAL, "LoRA: module '%s' is registered %s", module,
                    known ? "twice with two shapes" : "too late");
    LoraPair *longer = realloc(a->pair, ((size_t)a->n_pair + 1) * sizeof *longer);
    if (longer) a->pair = longer;
    size_t size = strlen(module) + sizeof ".lora_A.weight";
    char *names = longer ? calloc(3, size) : NULL; /* the module and its two tensors */
    if (!names) return fail(err, DRPO_E_MEMORY, "LoRA: out of memory");
    LoraPair *pair = &a->pair[a->n_pair++];
    *pair = (LoraPair){.module = names, .in = in, .out = out, .rank = rank, .scale = scale};
    strcpy(names, module);
    snprintf(names + size, size, "%s.lora_A.weight", module);
    snprintf(names + 2 * size, size, "%s.lora_B.weight", module);
    pair->a = (Param){.name = names + size, .dtype = DT_F32, .shape = shape2(rank, in), .trainable = true};
    pair->b = (Param){.name = names + 2 * size, .dtype = DT_F32, .shape = shape2(out, rank), .trainable = true};
    return 0;
}

int lora_register(Adapter *a, const char *module, int64_t in, int64_t out, Error *err) {
    return lora_register_pair(a, module, in, out, a->rank, a->alpha / (float)a->rank, err);
}

static int check_targets(const Adapter *a, Error *err) {
    for (char **t = a->targets; *t; t++) {
        bool found = false;
        for (int i = 0; i < a->n_pair && !found; i++) found = lora_names_module(*t, a->pair[i].module);
        if (!found)
            return fail(err, DRPO_E_USAGE,
                        "LoRA target '%s': no linear layer of this UNet ends in it; usual: to_q,to_k,to_v,to_out.0",
                        *t);
    }
    if (a->n_pair == 0) return fail(err, DRPO_E_INPUT, "LoRA: this UNet has no linear layer to adapt");
    return 0;
}

int lora_allocate(Adapter *a, Error *err) {
    TRY(check_targets(a, err));
    if (a->values) return fail(err, DRPO_E_INTERNAL, "LoRA: allocated twice");
    size_t count = 0;
    for (int i = 0; i < a->n_pair; i++) {
        LoraPair *p = &a->pair[i];
        p->offset_a = count;
        p->offset_b = count + (size_t)shape_count(p->a.shape);
        count = p->offset_b + (size_t)shape_count(p->b.shape);
    }
    a->values = calloc(count, sizeof *a->values);
    if (!a->values)
        return fail(err, DRPO_E_MEMORY, "LoRA: out of memory for %zu values; use a smaller rank or fewer targets",
                    count);
    a->count = count;
    for (int i = 0; i < a->n_pair; i++) {
        a->pair[i].a.data = a->values + a->pair[i].offset_a;
        a->pair[i].b.data = a->values + a->pair[i].offset_b;
    }
    return 0;
}

void lora_init(Adapter *a, uint64_t seed) {
    memset(a->values, 0, a->count * sizeof *a->values);
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        float bound = 1.0f / sqrtf((float)p->in);
        RngKey key = {.seed = seed, .stream = RNG_LORA, .candidate = (uint32_t)i};
        rng_uniform(key, -bound, bound, a->values + p->offset_a, (size_t)shape_count(p->a.shape));
    }
}

int lora_leaves(const Adapter *a) { return a->full ? (int)weights_count(a->full) : 2 * a->n_pair; }

AdapterLeaf lora_leaf(const Adapter *a, int i) {
    if (a->full) {
        const SafeTensor *t = weights_at(a->full, (size_t)i);
        Shape shape = {.rank = t->rank};
        for (int k = 0; k < t->rank && k < MAX_RANK; k++) shape.dim[k] = t->dim[k];
        return (AdapterLeaf){weights_get(a->full, shape, "%s", t->name),
                             (size_t)((const float *)t->data - (const float *)a->values)};
    }
    LoraPair *p = &a->pair[i / 2];
    return i % 2 ? (AdapterLeaf){&p->b, p->offset_b} : (AdapterLeaf){&p->a, p->offset_a};
}

bool lora_finite(const Adapter *a) {
    for (size_t i = 0; i < a->count; i++)
        if (!isfinite(a->values[i])) return false;
    return true;
}

static int check_same_modules(Adapter *to, const Adapter *from, Error *err) {
    for (int i = 0; i < from->n_pair; i++) {
        const LoraPair *p = &from->pair[i], *q = lora_find(to, p->module);
        if (!q)
            return fail(err, DRPO_E_INPUT, "LoRA: module '%s' of the given adapter is not a target of this run",
                        p->module);
        if (q->rank != p->rank || q->in != p->in || q->out != p->out)
            return fail(err, DRPO_E_INPUT, "LoRA: module '%s' has rank %d, this run uses rank %d", p->module, p->rank,
                        q->rank);
    }
    for (int i = 0; i < to->n_pair; i++)
        if (!lora_find((Adapter *)from, to->pair[i].module))
            return fail(err, DRPO_E_INPUT, "LoRA: the given adapter lacks module '%s'", to->pair[i].module);
    return 0;
}

int lora_copy(Adapter *to, const Adapter *from, Error *err) {
    if (!to->full != !from->full)
        return fail(err, DRPO_E_INPUT, "one is a LoRA, the other the whole UNet; give the same --train");
    if (to->full) {
        memcpy(to->values, from->values, to->count * sizeof *to->values);
        return 0;
    }
    TRY(check_same_modules(to, from, err));
    for (int i = 0; i < from->n_pair; i++) {
        const LoraPair *p = &from->pair[i], *q = lora_find(to, p->module);
        size_t n = (size_t)shape_count(p->b.shape);
        memcpy(to->values + q->offset_a, from->values + p->offset_a, (size_t)shape_count(p->a.shape) * sizeof(float));
        memcpy(to->values + q->offset_b, from->values + p->offset_b, n * sizeof(float));
        if (p->scale == q->scale) continue;
        /* another alpha: B takes up the difference, so that the product stays what it was */
        for (size_t k = 0; k < n; k++) to->values[q->offset_b + k] *= p->scale / q->scale;
    }
    return 0;
}
