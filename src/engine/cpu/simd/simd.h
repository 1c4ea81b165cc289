/* The table of single-threaded kernels that every instruction set offers. The backend picks one table when it starts
 * and splits work over threads itself; a kernel never knows about threads, so results do not depend on their number.
 *
 * Images are [pixels, channels] here: channels-last, one row per pixel. */
#ifndef DRPO_ENGINE_CPU_SIMD_SIMD_H
#define DRPO_ENGINE_CPU_SIMD_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/graph.h"

/* Per-channel vectors of a group norm at work on one image: z = (x - mean) * scale + bias, scale = w * rstd. */
typedef struct NormRow {
    const float *mean, *rstd, *scale, *bias; /* [C] */
} NormRow;

/* One block of queries of one head; rows of q, y are q_stride floats apart, rows of k and v kv_stride. */
typedef struct AttentionTask {
    const float *q, *k, *v;
    float *y;        /* forward */
    const float *dy; /* gradient: [queries, d], rows q_stride apart */
    float *dq, *dk, *dv;
    size_t q_stride, kv_stride;
    int queries, keys, d;
    int first_query; /* index of q's first row in the sequence: causal masks need it */
    float alpha;
    bool causal;
    float *work; /* attention_work() floats, 64-byte aligned */
} AttentionTask;

enum { ATTENTION_QUERIES = 64, ATTENTION_KEYS = 256 };
/* Floats of scratch for one thread. */
static inline size_t attention_work(int d) {
    size_t tile = (size_t)ATTENTION_KEYS * ATTENTION_QUERIES, row = (size_t)ATTENTION_QUERIES;
    return 2 * tile + 5 * (size_t)(d + 16) * row + 8 * row;
}

/* Winograd convolution, 3x3, stride 1, padding 1. Weights of one panel: u[xi * xi_stride + in * panel + out] from
 * w[in * in_stride + out * out_stride + 0..8], rotated by 180 degrees for the gradient. */
typedef struct WinogradWeights {
    float *u;
    const float *w;
    size_t xi_stride, in, out, in_stride, out_stride; /* out: channels of this panel that exist */
    bool flip;
} WinogradWeights;

/* A block of tiles times a part of the input channels and a slice of the output channels, in three steps: v from x; m
 * from v and u, added to what the parts before gave; y from m. */
typedef struct WinogradTask {
    const float *x, *u, *bias, *residual; /* bias [out] or NULL; residual like y or NULL */
    float *y;
    float *v, *m;             /* scratch: [36, tiles, part], [36, tiles, slice] */
    const float *zeros;       /* [in]: a pixel outside the image */
    size_t in, out;           /* channels */
    size_t first_in, part;    /* u begins with first_in */
    size_t first_out, slice;  /* slice: rounded up to whole vectors; u begins with it */
    size_t u_stride;          /* floats between places of u */
    int height, width, tiles; /* tiles: of this block */
    int64_t first_tile;
    bool doubled; /* x is an image whose every pixel became 2 x 2: places of line 2 are zero */
} WinogradTask;

typedef struct SimdKernels {
    const char *name;
    int width; /* floats in a vector */

    /* ---- elementwise, n elements ---- */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*add_scalar)(float *y, const float *a, float s, size_t n);
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    void (*affine)(float *y, const float *x, float alpha, float beta, size_t n);
    void (*act)(Act kind, float *y, const float *x, size_t n);
    void (*act_grad)(Act kind, float *dx, const float *x, const float *dy, size_t n);
    void (*geglu)(float *y, const float *x, const float *gate, size_t n);
    void (*geglu_grad)(float *dx, float *dgate, const float *x, const float *gate, const float *dy, size_t n);

    void (*half_to_float)(float *y, const void *x, size_t n); /* f16, any alignment; NULL: no instruction for it */

    /* ---- sums ---- */
    float (*row_sum)(const float *x, size_t n);
    void (*column_sum)(float *sum, const float *x, size_t rows, size_t n, size_t stride); /* overwrites sum [n] */

    /* ---- group norm on [rows, C] ---- */
    void (*shifted_sums)(float *sum, float *square, const float *x, const float *shift, size_t rows, size_t c);
    void (*normalize)(float *y, const float *x, NormRow norm, Act act, size_t rows, size_t c);
    /* dz = dy act'(z) into dz (may be dy; may be NULL); per-channel sums of dz and of dz xhat, overwritten */
    void (*norm_grad_sums)(float *dz, float *sum, float *sum_xhat, const float *x, const float *dy, NormRow norm,
                           Act act, size_t rows, size_t c);
    /* dx = scale dz + q (x - mean) + r, per channel */
    void (*norm_grad)(float *dx, const float *dz, const float *x, NormRow norm, const float *q, const float *r,
                      size_t rows, size_t c);

    /* ---- layer norm on one row ---- */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
    void (*layer_norm_dx)(float *dx, const float *x, const float *w, const float *dy, float eps, size_t n);
    /* adds dy xhat to dw, dy to db */
    void (*layer_norm_dwb)(float *dw, float *db, const float *x, const float *dy, float eps, size_t n);

    void (*rms_norm)(float *y, const float *x, float eps, size_t n);
    void (*rms_norm_dx)(float *dx, const float *x, const float *dy, float eps, size_t n);

    /* ---- attention ---- */
    void (*attention)(const AttentionTask *task);
    void (*attention_grad)(const AttentionTask *task); /* writes dq, adds to dk and dv */

    /* ---- convolution ---- */
    size_t winograd_panel; /* output channels that are stored together */
    void (*winograd_weights)(const WinogradWeights *task);
    void (*winograd_input)(const WinogradTask *task);
    void (*winograd_products)(const WinogradTask *task);
    void (*winograd_output)(const WinogradTask *task);
} SimdKernels;

/* Fills in the table; avx2 and avx512 may only be called into where the processor has these instructions. */
void simd_kernels_generic(SimdKernels *k);
#if defined(__x86_64__)
void simd_kernels_avx2(SimdKernels *k);
void simd_kernels_avx512(SimdKernels *k);
#endif

#endif
