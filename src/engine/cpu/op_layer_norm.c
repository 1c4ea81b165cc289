/* Layer norm and RMS norm over the last dimension and their gradients (equations: simd/norms.c). Rows are independent;
 * the weight's gradient is summed over chunks of rows in a fixed order. */
#include <string.h>

#include "engine/cpu/cpu.h"

enum { MOST_CHUNKS = 64, LEAST_ROWS = 32 };

typedef struct LayerNorm {
    CpuBackend *b;
    int64_t rows, c, chunk, chunks;
    float eps;
} LayerNorm;

#define FOR_ROWS(s)                                                                                                    \
    _Pragma("omp parallel for num_threads((s)->b->threads) schedule(static) if ((s)->rows * (s)->c > 16384)") for (    \
        int64_t r = 0; r < (s)->rows; r++)

static int run_forward(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const LayerNorm *s = k->state;
    FOR_ROWS(s)
    s->b->simd.layer_norm(floats(out) + r * s->c, floats(in[0]) + r * s->c, in[1], in[2], s->eps, (size_t)s->c);
    return 0;
}

static int run_dx(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const LayerNorm *s = k->state;
    FOR_ROWS(s) {
        int64_t at = r * s->c;
        s->b->simd.layer_norm_dx(floats(out) + at, floats(in[0]) + at, in[1], floats(in[2]) + at, s->eps, (size_t)s->c);
    }
    return 0;
}

static int run_dwb(const Kernel *k, void *out, void *const *in, void *workspace) {
    const LayerNorm *s = k->state;
    float *partial = workspace; /* [chunks, 2, c] */
    memset(partial, 0, sizeof(float) * (size_t)(s->chunks * 2 * s->c));
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->rows * s->c > 16384)
    for (int64_t i = 0; i < s->chunks; i++) {
        float *dw = partial + i * 2 * s->c;
        for (int64_t r = i * s->chunk; r < min_i64(s->rows, (i + 1) * s->chunk); r++)
            s->b->simd.layer_norm_dwb(dw, dw + s->c, floats(in[0]) + r * s->c, floats(in[1]) + r * s->c, s->eps,
                                      (size_t)s->c);
    }
    s->b->simd.column_sum(out, partial, (size_t)s->chunks, (size_t)(2 * s->c), (size_t)(2 * s->c));
    return 0;
}

static int run_rms(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const LayerNorm *s = k->state;
    FOR_ROWS(s) s->b->simd.rms_norm(floats(out) + r * s->c, floats(in[0]) + r * s->c, s->eps, (size_t)s->c);
    return 0;
}

static int run_rms_dx(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const LayerNorm *s = k->state;
    FOR_ROWS(s) {
        int64_t at = r * s->c;
        s->b->simd.rms_norm_dx(floats(out) + at, floats(in[0]) + at, floats(in[1]) + at, s->eps, (size_t)s->c);
    }
    return 0;
}

static int prepare(CpuBackend *b, const Node *n, Kernel *k, int (*run)(const Kernel *, void *, void *const *, void *),
                   Error *err) {
    LayerNorm *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    Shape x = n->in[0]->shape;
    s->c = x.dim[x.rank - 1];
    s->rows = shape_count(x) / s->c;
    s->chunk = (s->rows + MOST_CHUNKS - 1) / MOST_CHUNKS;
    if (s->chunk < LEAST_ROWS) s->chunk = LEAST_ROWS;
    s->chunks = (s->rows + s->chunk - 1) / s->chunk;
    s->eps = n->attr.eps;
    k->run = run;
    return 0;
}

int cpu_layer_norm(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_forward, err); }
int cpu_layer_norm_dx(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_dx, err); }
int cpu_rms_norm(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_rms, err); }
int cpu_rms_norm_dx(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_rms_dx, err); }

int cpu_layer_norm_dwb(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    TRY(prepare(b, n, k, run_dwb, err));
    const LayerNorm *s = k->state;
    k->workspace = sizeof(float) * (size_t)(s->chunks * 2 * s->c);
    return 0;
}
