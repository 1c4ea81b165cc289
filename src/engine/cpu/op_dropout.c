/* DROPOUT: y = m x / (1 - p), m 0 with probability p. Pieces of a row are one task each; every value's random word is
 * named by (key of the row, layer, place in the row), so neither pieces nor threads change it. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/cpu.h"

enum { PIECE = 4096 }; /* values, a multiple of the four words of a block */

typedef struct Dropout {
    CpuBackend *b;
    int64_t rows, width, layer;
    uint32_t below; /* words below it drop their value */
    float scale;
} Dropout;

static void drop_piece(const Dropout *s, const uint32_t *k, int64_t at, float *y, const float *x) {
    const RngKey key = {(uint64_t)k[2] << 32 | k[1], RNG_DROPOUT, k[3], k[4], k[5]};
    const int64_t n = min_i64(PIECE, s->width - at);
    uint32_t word[PIECE];
    rng_words(key, ((uint64_t)s->layer << 32) + (uint64_t)at / 4, word, (size_t)n);
    for (int64_t i = 0; i < n; i++) y[i] = word[i] < s->below ? 0 : x[i] * s->scale;
}

static int run_dropout(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Dropout *s = k->state;
    const uint32_t *keys = in[1];
    const int64_t pieces = (s->width + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->rows * s->width > 2 * PIECE)
    for (int64_t task = 0; task < s->rows * pieces; task++) {
        const int64_t row = task / pieces, at = task % pieces * PIECE, from = row * s->width + at;
        const uint32_t *key = keys + row * DROPOUT_KEY;
        if (key[0])
            drop_piece(s, key, at, floats(out) + from, floats(in[0]) + from);
        else
            memcpy(floats(out) + from, floats(in[0]) + from, (size_t)min_i64(PIECE, s->width - at) * sizeof(float));
    }
    return 0;
}

int cpu_dropout(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Dropout *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    const double p = (double)n->attr.alpha;
    s->rows = n->shape.dim[0];
    s->width = shape_count(n->shape) / s->rows;
    s->layer = n->attr.start;
    s->below = (uint32_t)ceil(p * 0x1p32);
    s->scale = (float)(1 / (1 - p));
    k->run = run_dropout;
    return 0;
}
