/* Group norm on channels-last images, with a fused activation, and its gradients (equations: simd/norms.c).
 *
 * An image is cut into chunks of rows whose size depends on its shape only. Per-channel sums of the chunks are combined
 * in double precision, in order, so that a result does not depend on the number of threads. */
#include <math.h>

#include "engine/cpu/cpu.h"

typedef struct GroupNorm {
    CpuBackend *b;
    int64_t images, rows, c, groups; /* rows: pixels of an image */
    int64_t chunk, chunks;           /* rows of a chunk, chunks of an image */
    float eps;
    Act act;
} GroupNorm;

/* One run: inputs, result, and the slices of the workspace. */
typedef struct Run {
    const GroupNorm *s;
    const float *x, *w, *bias, *dy;
    float *out;
    float *partial; /* [images, chunks, 2, c] */
    float *row;     /* [images, 5, c]: mean, rstd, scale, q, r */
} Run;

static size_t workspace_of(const GroupNorm *s) {
    return sizeof(float) * (size_t)(s->images * s->c * (2 * s->chunks + 5));
}

static Run start(const Kernel *k, void *out, void *const *in, void *workspace) {
    const GroupNorm *s = k->state;
    Run r = {s, in[0], in[1], in[2], NULL, out, workspace, NULL};
    r.row = r.partial + s->images * s->chunks * 2 * s->c;
    return r;
}

static NormRow row_of(const Run *r, int64_t image) {
    const float *row = r->row + image * 5 * r->s->c;
    return (NormRow){.mean = row, .rstd = row + r->s->c, .scale = row + 2 * r->s->c, .bias = r->bias};
}

static float *partial_of(const Run *r, int64_t item) { return r->partial + item * 2 * r->s->c; }
static size_t rows_of_chunk(const GroupNorm *s, int64_t chunk) {
    return (size_t)min_i64(s->chunk, s->rows - chunk * s->chunk);
}

static int64_t place_of(const GroupNorm *s, int64_t item) {
    return (item / s->chunks * s->rows + item % s->chunks * s->chunk) * s->c;
}

static void sum_chunk(const Run *r, int64_t item) {
    const GroupNorm *s = r->s;
    float *sum = partial_of(r, item);
    const float *shift = r->x + item / s->chunks * s->rows * s->c; /* the image's first pixel */
    s->b->simd.shifted_sums(sum, sum + s->c, r->x + place_of(s, item), shift, rows_of_chunk(s, item % s->chunks),
                            (size_t)s->c);
}

/* Sum over an image's chunks of the channel's first (part 0) or second partial. */
static double combine(const Run *r, int64_t image, int part, int64_t channel) {
    const GroupNorm *s = r->s;
    double sum = 0;
    for (int64_t i = 0; i < s->chunks; i++) sum += partial_of(r, image * s->chunks + i)[part * s->c + channel];
    return sum;
}

static void group_statistics(const Run *r, int64_t image, int64_t group) {
    const GroupNorm *s = r->s;
    int64_t width = s->c / s->groups, first = group * width;
    const float *shift = r->x + image * s->rows * s->c;
    float *mean = r->row + image * 5 * s->c, *rstd = mean + s->c, *scale = rstd + s->c;
    double total = 0, squares = 0, n = (double)s->rows;
    for (int64_t c = first; c < first + width; c++) total += shift[c] + combine(r, image, 0, c) / n;
    double group_mean = total / (double)width;
    for (int64_t c = first; c < first + width; c++) {
        double sum = combine(r, image, 0, c), off = shift[c] + sum / n - group_mean;
        squares += combine(r, image, 1, c) - sum * sum / n + n * off * off;
    }
    double inverse = 1 / sqrt(squares / (n * (double)width) + (double)s->eps);
    for (int64_t c = first; c < first + width; c++) {
        mean[c] = (float)group_mean;
        rstd[c] = (float)inverse;
        scale[c] = (float)(inverse * r->w[c]);
    }
}

/* Called by every thread of a parallel region. */
static void statistics(const Run *r) {
    const GroupNorm *s = r->s;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->images * s->chunks; i++) sum_chunk(r, i);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->images * s->groups; i++) group_statistics(r, i / s->groups, i % s->groups);
}

#define PARALLEL(s) _Pragma("omp parallel num_threads((s)->b->threads) if ((s)->images * (s)->rows * (s)->c > 16384)")

static int run_forward(const Kernel *k, void *out, void *const *in, void *workspace) {
    Run r = start(k, out, in, workspace);
    const GroupNorm *s = r.s;
    PARALLEL(s) {
        statistics(&r);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s->images * s->chunks; i++) {
            int64_t at = place_of(s, i);
            s->b->simd.normalize(r.out + at, r.x + at, row_of(&r, i / s->chunks), s->act,
                                 rows_of_chunk(s, i % s->chunks), (size_t)s->c);
        }
    }
    return 0;
}

static void grad_sums(const Run *r, float *dz, int64_t item) {
    const GroupNorm *s = r->s;
    int64_t at = place_of(s, item);
    float *sum = partial_of(r, item);
    s->b->simd.norm_grad_sums(dz ? dz + at : NULL, sum, sum + s->c, r->x + at, r->dy + at, row_of(r, item / s->chunks),
                              s->act, rows_of_chunk(s, item % s->chunks), (size_t)s->c);
}

/* dx = scale dz + q (x - mean) + r with q = -rstd^2 mean(g xhat), r = -rstd mean(g), g = w dz */
static void grad_coefficients(const Run *run, int64_t image, int64_t group) {
    const GroupNorm *s = run->s;
    int64_t width = s->c / s->groups, first = group * width;
    float *rstd = run->row + image * 5 * s->c + s->c, *q = rstd + 2 * s->c, *r = rstd + 3 * s->c;
    double mean_g = 0, mean_g_xhat = 0, n = (double)(s->rows * width);
    for (int64_t c = first; c < first + width; c++) {
        mean_g += run->w[c] * combine(run, image, 0, c) / n;
        mean_g_xhat += run->w[c] * combine(run, image, 1, c) / n;
    }
    for (int64_t c = first; c < first + width; c++) {
        q[c] = (float)(-(double)rstd[c] * rstd[c] * mean_g_xhat);
        r[c] = (float)(-rstd[c] * mean_g);
    }
}

static int run_dx(const Kernel *k, void *out, void *const *in, void *workspace) {
    Run r = start(k, out, in, workspace);
    const GroupNorm *s = r.s;
    r.dy = in[3];
    PARALLEL(s) {
        statistics(&r);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s->images * s->chunks; i++) grad_sums(&r, r.out, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s->images * s->groups; i++) grad_coefficients(&r, i / s->groups, i % s->groups);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s->images * s->chunks; i++) {
            int64_t at = place_of(s, i);
            NormRow row = row_of(&r, i / s->chunks);
            s->b->simd.norm_grad(r.out + at, r.out + at, r.x + at, row, row.scale + s->c, row.scale + 2 * s->c,
                                 rows_of_chunk(s, i % s->chunks), (size_t)s->c);
        }
    }
    return 0;
}

static int run_dwb(const Kernel *k, void *out, void *const *in, void *workspace) {
    Run r = start(k, out, in, workspace);
    const GroupNorm *s = r.s;
    r.dy = in[3];
    PARALLEL(s) {
        statistics(&r);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < s->images * s->chunks; i++) grad_sums(&r, NULL, i);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < s->c; c++) {
            double db = 0, dw = 0;
            for (int64_t i = 0; i < s->images; i++) {
                db += combine(&r, i, 0, c);
                dw += combine(&r, i, 1, c);
            }
            r.out[c] = (float)dw; /* [dw | db] */
            r.out[s->c + c] = (float)db;
        }
    }
    return 0;
}

static int prepare(CpuBackend *b, const Node *n, Kernel *k, int (*run)(const Kernel *, void *, void *const *, void *),
                   Error *err) {
    GroupNorm *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    Shape x = n->in[0]->shape;
    s->images = x.dim[0];
    s->rows = x.dim[2] * x.dim[3];
    s->c = x.dim[1];
    s->groups = n->attr.groups;
    s->chunk = 16384 / s->c < 16 ? 16 : 16384 / s->c; /* 64 KiB: stays in the second-level cache between passes */
    s->chunks = (s->rows + s->chunk - 1) / s->chunk;
    s->eps = n->attr.eps;
    s->act = n->attr.act;
    k->run = run;
    k->workspace = workspace_of(s);
    return 0;
}

int cpu_group_norm(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_forward, err); }
int cpu_group_norm_dx(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_dx, err); }
int cpu_group_norm_dwb(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return prepare(b, n, k, run_dwb, err); }
