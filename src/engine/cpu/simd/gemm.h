/* C (+)= A B for the small products inside attention: B and C have contiguous rows, A any strides.
 *
 * A block of C stays in registers while k runs; every element sums over k in order, so a product in parts of
 * k gives the same bytes. */
#ifndef DRPO_ENGINE_CPU_SIMD_GEMM_H
#define DRPO_ENGINE_CPU_SIMD_GEMM_H

#include <stdbool.h>

#include "engine/cpu/simd/vec.h"

typedef struct Gemm {
    int m, n, k;
    const float *a; /* element (i,k) at a[i * a_row + k * a_col] */
    size_t a_row, a_col;
    const float *b; /* [k, n rounded up to W], rows b_row apart */
    size_t b_row;
    float *c; /* [m, n], rows c_row apart */
    size_t c_row;
    bool add; /* to what is in c */
} Gemm;

#if defined(__AVX512F__)
enum { GEMM_ROWS = 12, GEMM_VECTORS = 4 };
#else
enum { GEMM_ROWS = 8, GEMM_VECTORS = 2 };
#endif

/* Rows i..i+mr of C, columns j..j+nv*W, the last vector holding `last` of W columns. */
INLINE void gemm_block(const Gemm *g, int i, int j, const int mr, const int nv, size_t last) {
    vf acc[GEMM_ROWS][GEMM_VECTORS];
    float *c = g->c + (size_t)i * g->c_row + j;
    UNROLL
    for (int r = 0; r < mr; r++) {
        UNROLL
        for (int v = 0; v < nv; v++)
            acc[r][v] = g->add ? load_part(c + (size_t)r * g->c_row + v * W, v + 1 < nv ? W : last) : (vf){0};
    }
    const float *a = g->a + (size_t)i * g->a_row, *b = g->b + j;
    size_t a_row = g->a_row;
    for (int k = 0; k < g->k; k++, a += g->a_col, b += g->b_row) {
        vf row[GEMM_VECTORS];
        UNROLL
        for (int v = 0; v < nv; v++) row[v] = load(b + v * W);
        UNROLL
        for (int r = 0; r < mr; r++) {
            UNROLL
            for (int v = 0; v < nv; v++) acc[r][v] += a[(size_t)r * a_row] * row[v];
        }
    }
    UNROLL
    for (int r = 0; r < mr; r++) {
        UNROLL
        for (int v = 0; v < nv; v++) store_part(c + (size_t)r * g->c_row + v * W, acc[r][v], v + 1 < nv ? W : last);
    }
}

#define GEMM_COLUMNS(nv, rows)                                                                                         \
    static void gemm_columns_##nv(const Gemm *g, int j, size_t last) {                                                 \
        int i = 0;                                                                                                     \
        for (; i + rows <= g->m; i += rows) gemm_block(g, i, j, rows, nv, last);                                       \
        for (; i + 4 <= g->m; i += 4) gemm_block(g, i, j, 4, nv, last);                                                \
        for (; i < g->m; i++) gemm_block(g, i, j, 1, nv, last);                                                        \
    }
#if defined(__AVX512F__)
GEMM_COLUMNS(4, 6)
GEMM_COLUMNS(3, 8)
GEMM_COLUMNS(2, 12)
GEMM_COLUMNS(1, 12)
#else
GEMM_COLUMNS(2, 6)
GEMM_COLUMNS(1, 8)
#endif

static void gemm(const Gemm *g) {
    static void (*const columns[])(const Gemm *, int, size_t) = {
        NULL,
        gemm_columns_1,
        gemm_columns_2,
#if defined(__AVX512F__)
        gemm_columns_3,
        gemm_columns_4,
#endif
    };
    for (int j = 0; j < g->n; j += GEMM_VECTORS * W) {
        int left = g->n - j, vectors = (left + W - 1) / W;
        if (vectors > GEMM_VECTORS) vectors = GEMM_VECTORS;
        int last = left - (vectors - 1) * W;
        columns[vectors](g, j, (size_t)(last < W ? last : W));
    }
}

#endif
