/* SUM_TO and BROADCAST_TO: one sums over the dimensions that the other repeats.
 *
 * In memory order, an array and its smaller shape alternate between kept and summed dimensions; after merging
 * neighbours at most two groups are summed. Each is one pass over [outer, summed, inner], the last group first. Long
 * sums are cut into chunks of a fixed size whose partial sums are added in order. */
#include <string.h>

#include "engine/cpu/cpu.h"

enum { CHUNK_ELEMENTS = 16384 };

/* sum over the middle of x [outer, summed, inner] */
typedef struct Pass {
    int64_t outer, summed, inner, chunk, chunks; /* chunk: indices of `summed` at a time */
} Pass;

typedef struct Reduce {
    CpuBackend *b;
    Pass pass[2];
    int n_pass;
    int64_t count;
    size_t between; /* floats of the result of the first of two passes */
} Reduce;

static Pass pass_of(int64_t outer, int64_t summed, int64_t inner) {
    Pass p = {.outer = outer, .summed = summed, .inner = inner};
    p.chunk = CHUNK_ELEMENTS / inner < 1 ? 1 : CHUNK_ELEMENTS / inner;
    p.chunks = (summed + p.chunk - 1) / p.chunk;
    return p;
}

/* Cuts dimensions [0, end) of `from` into [outer, summed, inner] around the last summed group; 0 when nothing is
 * summed. *begin receives the first dimension of that group, whose sizes in `from` become 1. */
static bool last_group(Dims *from, Dims to, Pass *out) {
    int end = MAX_RANK;
    while (end > 0 && from->d[end - 1] == to.d[end - 1]) end--;
    if (end == 0) return false;
    int begin = end;
    int64_t outer = 1, summed = 1, inner = 1;
    for (int i = end; i < MAX_RANK; i++) inner *= from->d[i];
    /* a dimension of 1 on both sides belongs to either */
    while (begin > 0 && to.d[begin - 1] == 1) summed *= from->d[--begin];
    for (int i = 0; i < begin; i++) outer *= from->d[i];
    for (int i = begin; i < end; i++) from->d[i] = 1;
    *out = pass_of(outer, summed, inner);
    return true;
}

static void sum_chunk(const SimdKernels *simd, const Pass *p, float *to, const float *x, int64_t item) {
    int64_t first = item % p->chunks * p->chunk, rows = min_i64(p->chunk, p->summed - first);
    const float *from = x + (item / p->chunks * p->summed + first) * p->inner;
    if (p->inner == 1)
        *to = simd->row_sum(from, (size_t)rows);
    else
        simd->column_sum(to, from, (size_t)rows, (size_t)p->inner, (size_t)p->inner);
}

static void run_pass(const CpuBackend *b, const Pass *p, float *out, const float *x, float *partial) {
    int64_t items = p->outer * p->chunks;
    float *sums = p->chunks > 1 ? partial : out;
#pragma omp parallel for num_threads(b->threads) schedule(static) if (items > 1 && items * p->chunk * p->inner > 32768)
    for (int64_t i = 0; i < items; i++) sum_chunk(&b->simd, p, sums + i * p->inner, x, i);
    if (p->chunks == 1) return;
    for (int64_t o = 0; o < p->outer; o++)
        b->simd.column_sum(out + o * p->inner, partial + o * p->chunks * p->inner, (size_t)p->chunks, (size_t)p->inner,
                           (size_t)p->inner);
}

static int run_sum_to(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Reduce *s = k->state;
    float *between = workspace, *partial = between + s->between;
    if (s->n_pass == 0) cpu_copy(s->b, out, in[0], (size_t)s->count * sizeof(float));
    if (s->n_pass == 1) run_pass(s->b, &s->pass[0], out, in[0], partial);
    if (s->n_pass == 2) {
        run_pass(s->b, &s->pass[0], between, in[0], partial);
        run_pass(s->b, &s->pass[1], out, between, partial);
    }
    return 0;
}

int cpu_sum_to(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Reduce *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    Dims from = cpu_dims(n->in[0]->shape), to = cpu_dims(n->shape);
    s->count = shape_count(n->shape);
    while (s->n_pass < 2 && last_group(&from, to, &s->pass[s->n_pass])) s->n_pass++;
    size_t partial = 0;
    for (int i = 0; i < s->n_pass; i++) {
        size_t need = (size_t)(s->pass[i].outer * s->pass[i].chunks * s->pass[i].inner);
        if (need > partial) partial = need;
    }
    if (s->n_pass == 2) s->between = (size_t)(s->pass[0].outer * s->pass[0].inner);
    k->workspace = (s->between + partial) * sizeof(float);
    k->run = run_sum_to;
    return 0;
}

/* ---- broadcasting ---- */
typedef struct Repeat {
    CpuBackend *b;
    Dims from, to;
    int64_t lines;
} Repeat;

static int run_broadcast_to(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Repeat *s = k->state;
    const int64_t *d = s->to.d, *f = s->from.d;
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->lines * d[3] > 32768)
    for (int64_t i = 0; i < s->lines; i++) {
        int64_t i2 = i % d[2], i1 = i / d[2] % d[1], i0 = i / d[2] / d[1];
        int64_t line = ((f[0] > 1 ? i0 : 0) * f[1] + (f[1] > 1 ? i1 : 0)) * f[2] + (f[2] > 1 ? i2 : 0);
        const float *x = floats(in[0]) + line * f[3];
        float *y = floats(out) + i * d[3];
        if (f[3] == d[3])
            memcpy(y, x, (size_t)d[3] * sizeof(float));
        else
            for (int64_t c = 0; c < d[3]; c++) y[c] = *x;
    }
    return 0;
}

int cpu_broadcast_to(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Repeat *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    s->from = cpu_dims(n->in[0]->shape);
    s->to = cpu_dims(n->shape);
    s->lines = s->to.d[0] * s->to.d[1] * s->to.d[2];
    k->run = run_broadcast_to;
    return 0;
}
