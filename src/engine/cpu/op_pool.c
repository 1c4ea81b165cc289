/* Pooling over cells of q x q pixels, channels-last: one line of cells at a time.
 *
 *     AVG_POOL   y = mean(cell)                       dx = dy / q^2
 *     POOL_STD   y = sqrt(var(cell) + eps), or sqrt(max(var, eps)) with attr.floor
 *                dx = dy (x - mean) / (q^2 y), 0 where the floor holds */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

typedef struct Pool {
    CpuBackend *b;
    int64_t lines, cells, c, q; /* lines: images times rows of cells; cells of a line */
    float eps;
    bool floor, large; /* large: worth more than one thread */
} Pool;

#define FOR_CELLS(s)                                                                                                   \
    _Pragma("omp parallel for num_threads((s)->b->threads) schedule(static) if ((s)->large)") for (int64_t i = 0;      \
                                                                                                   i < (s)->lines *    \
                                                                                                           (s)->cells; \
                                                                                                   i++)

/* First pixel of cell i, and pixel j of the cell from there on. */
static int64_t cell_at(const Pool *s, int64_t i) {
    return (i / s->cells * s->q * s->cells + i % s->cells) * s->q * s->c;
}
static int64_t pixel_at(const Pool *s, int64_t j) { return (j / s->q * s->cells * s->q + j % s->q) * s->c; }

static void cell_mean(const Pool *s, float *mean, const float *x) {
    float by = 1.0f / (float)(s->q * s->q);
    memset(mean, 0, (size_t)s->c * sizeof(float));
    for (int64_t j = 0; j < s->q * s->q; j++) {
        const float *pixel = x + pixel_at(s, j);
        for (int64_t c = 0; c < s->c; c++) mean[c] += pixel[c];
    }
    for (int64_t c = 0; c < s->c; c++) mean[c] *= by;
}

static float cell_variance(const Pool *s, float mean, const float *x, int64_t c) {
    float sum = 0;
    for (int64_t j = 0; j < s->q * s->q; j++) {
        float d = x[pixel_at(s, j) + c] - mean;
        sum += d * d;
    }
    return sum / (float)(s->q * s->q);
}

static int run_avg(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    FOR_CELLS(s) cell_mean(s, floats(out) + i * s->c, floats(in[0]) + cell_at(s, i));
    return 0;
}

static int run_avg_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    float by = 1.0f / (float)(s->q * s->q);
    FOR_CELLS(s) {
        const float *dy = floats(in[0]) + i * s->c;
        for (int64_t j = 0; j < s->q * s->q; j++)
            s->b->simd.affine(floats(out) + cell_at(s, i) + pixel_at(s, j), dy, by, 0, (size_t)s->c);
    }
    return 0;
}

/* Channel c of pixel j of a cell <-> channel c q^2 + j of the cell's one pixel. */
static int run_unshuffle(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    int64_t pixels = s->q * s->q;
    FOR_CELLS(s) {
        const float *x = floats(in[0]) + cell_at(s, i);
        float *y = floats(out) + i * s->c * pixels;
        for (int64_t j = 0; j < pixels; j++)
            for (int64_t c = 0; c < s->c; c++) y[c * pixels + j] = x[pixel_at(s, j) + c];
    }
    return 0;
}

static int run_shuffle(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    int64_t pixels = s->q * s->q;
    FOR_CELLS(s) {
        const float *x = floats(in[0]) + i * s->c * pixels;
        float *y = floats(out) + cell_at(s, i);
        for (int64_t j = 0; j < pixels; j++)
            for (int64_t c = 0; c < s->c; c++) y[pixel_at(s, j) + c] = x[c * pixels + j];
    }
    return 0;
}

static int run_std(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    FOR_CELLS(s) {
        const float *x = floats(in[0]) + cell_at(s, i);
        float *y = floats(out) + i * s->c;
        cell_mean(s, y, x);
        for (int64_t c = 0; c < s->c; c++) {
            float var = cell_variance(s, y[c], x, c);
            y[c] = sqrtf(!s->floor ? var + s->eps : var > s->eps ? var : s->eps);
        }
    }
    return 0;
}

static int run_std_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pool *s = k->state;
    int64_t pixels = s->q * s->q;
    FOR_CELLS(s) {
        const float *x = floats(in[0]) + cell_at(s, i), *std = floats(in[1]) + i * s->c, *dy = floats(in[2]) + i * s->c;
        float *dx = floats(out) + cell_at(s, i);
        for (int64_t c = 0; c < s->c; c++) {
            float mean = 0;
            for (int64_t j = 0; j < pixels; j++) mean += x[pixel_at(s, j) + c];
            mean /= (float)pixels;
            bool flat = s->floor && cell_variance(s, mean, x, c) < s->eps;
            float slope = flat ? 0 : dy[c] / ((float)pixels * std[c]);
            for (int64_t j = 0; j < pixels; j++) dx[pixel_at(s, j) + c] = slope * (x[pixel_at(s, j) + c] - mean);
        }
    }
    return 0;
}

/* `image` is the large shape. */
static int prepare(CpuBackend *b, const Node *n, Shape image, Kernel *k,
                   int (*run)(const Kernel *, void *, void *const *, void *), Error *err) {
    Pool *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    s->q = n->attr.pool;
    s->lines = image.dim[0] * image.dim[2] / s->q;
    s->cells = image.dim[3] / s->q;
    s->c = image.dim[1];
    s->eps = n->attr.eps;
    s->floor = n->attr.floor;
    s->large = shape_count(image) > 16384;
    k->run = run;
    return 0;
}

int cpu_pixel_unshuffle(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->in[0]->shape, k, run_unshuffle, err);
}
int cpu_pixel_shuffle(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->shape, k, run_shuffle, err);
}
int cpu_avg_pool(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->in[0]->shape, k, run_avg, err);
}
int cpu_avg_pool_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->shape, k, run_avg_grad, err);
}
int cpu_pool_std(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->in[0]->shape, k, run_std, err);
}
int cpu_pool_std_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n, n->shape, k, run_std_grad, err);
}
