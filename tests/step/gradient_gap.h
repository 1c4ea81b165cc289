/* How far gradients are apart: |found - expected| / |expected| over all numbers. */
#ifndef DRPO_TESTS_GRADIENT_GAP_H
#define DRPO_TESTS_GRADIENT_GAP_H

#include <math.h>

#include "check.h"
#include "format/safetensors.h"
#include "step/step.h"

typedef struct Gap {
    double gap, size; /* sums of squares */
} Gap;

static inline void gap_add(Gap *g, const float *found, const float *expected, size_t n) {
    for (size_t i = 0; i < n; i++) {
        g->gap += ((double)found[i] - expected[i]) * ((double)found[i] - expected[i]);
        g->size += (double)expected[i] * expected[i];
    }
}

static inline double gap_relative(const Gap *g) {
    assert_true(g->size > 0);
    return sqrt(g->gap / g->size);
}

static inline double difference(const float *found, const float *expected, size_t n) {
    Gap g = {0};
    gap_add(&g, found, expected, n);
    return gap_relative(&g);
}

/* Of a golden file: tensors "grad.<name>.base_model.model.<module>.lora_A.weight" and so on. */
static inline void gap_add_half(Gap *g, const SafeFile *golden, const char *name, const char *module, const char *half,
                                const float *found, int64_t n) {
    char key[512];
    snprintf(key, sizeof key, "grad.%s.base_model.model.%s.%s.weight", name, module, half);
    const SafeTensor *t = safetensors_find(golden, key);
    if (!t || t->bytes != (size_t)n * sizeof(float)) fail_msg("no tensor %s of %lld numbers", key, (long long)n);
    gap_add(g, found, t->data, (size_t)n);
}

static inline double golden_gap(const SafeFile *golden, const char *name, const Adapter *a, const float *grad) {
    Gap g = {0};
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        gap_add_half(&g, golden, name, p->module, "lora_A", grad + p->offset_a, p->rank * p->in);
        gap_add_half(&g, golden, name, p->module, "lora_B", grad + p->offset_b, p->rank * p->out);
    }
    return gap_relative(&g);
}

#endif
