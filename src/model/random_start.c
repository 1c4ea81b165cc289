/* Random start. See random_start.h. */
#include "model/random_start.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "format/safetensors.h"
#include "model/weights.h"

enum { NAME = 128 };

static size_t size_of(const SafeTensor *t) { return t->bytes / sizeof(float); }

static double row_length(const SafeTensor *t) { return (double)size_of(t) / (double)t->dim[0]; }

/* Numbers that a row of the layer's weight is multiplied with; 0: a norm. */
static double inputs_of(const Weights *w, const SafeTensor *t) {
    char weight[NAME];
    if (t->rank > 1) return row_length(t);
    if (!ends_with(t->name, ".bias")) return 0;
    snprintf(weight, sizeof weight, "%.*sweight", (int)(strlen(t->name) - strlen("bias")), t->name);
    for (size_t i = 0; i < weights_count(w); i++) {
        const SafeTensor *other = weights_at(w, i);
        if (strcmp(other->name, weight) == 0) return other->rank > 1 ? row_length(other) : 0;
    }
    return 0;
}

void random_start(Adapter *a, uint64_t seed) {
    float *to = a->values; /* tensors lie one after another */
    for (size_t k = 0; k < weights_count(a->full); k++) {
        const SafeTensor *t = weights_at(a->full, k);
        const double inputs = inputs_of(a->full, t);
        const float bound = inputs > 0 ? (float)(1 / sqrt(inputs)) : 0;
        const RngKey key = {.seed = seed, .stream = RNG_START, .candidate = (uint32_t)k};
        if (inputs > 0) rng_uniform(key, -bound, bound, to, size_of(t));
        for (size_t i = 0; inputs == 0 && i < size_of(t); i++) to[i] = ends_with(t->name, ".weight");
        to += size_of(t);
    }
}
