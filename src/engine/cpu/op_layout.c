/* Ops that move values: contiguous runs are copied, split over threads by line.
 *
 *     CONCAT, SLICE, PAD_AXIS   in memory order an array is [outer, axis, inner]; a line is what one outer index holds
 *     EMBED, EMBED_GRAD         rows of a table; a frozen f16 table is converted row by row and never copied
 *     UPSAMPLE2X and gradient   nearest neighbour, one line per output row */
#include <string.h>

#include "engine/cpu/cpu.h"

typedef struct Lines {
    CpuBackend *b;
    int64_t outer;
    int64_t out, first, second; /* floats per line in the result and in the inputs */
    int64_t start;              /* where a slice begins in its line */
} Lines;

static int64_t inner_of(Dims m, int axis) {
    int64_t n = 1;
    for (int i = axis + 1; i < MAX_RANK; i++) n *= m.d[i];
    return n;
}

static Lines *lines_new(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Lines *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return NULL;
    int axis = cpu_axis(n->shape, n->attr.axis);
    Dims y = cpu_dims(n->shape), x = cpu_dims(n->in[0]->shape);
    int64_t inner = inner_of(y, axis);
    s->out = y.d[axis] * inner;
    s->outer = shape_count(n->shape) / s->out;
    s->first = x.d[axis] * inner;
    s->second = s->out - s->first;
    s->start = n->attr.start * inner;
    return s;
}

#define FOR_LINES(s)                                                                                                   \
    _Pragma("omp parallel for num_threads((s)->b->threads) schedule(static) if ((s)->outer * (s)->out > 32768)") for ( \
        int64_t i = 0; i < (s)->outer; i++)

static size_t bytes_of(int64_t n) { return (size_t)n * sizeof(float); }

static int run_concat(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Lines *s = k->state;
    FOR_LINES(s) {
        float *y = floats(out) + i * s->out;
        memcpy(y, floats(in[0]) + i * s->first, bytes_of(s->first));
        memcpy(y + s->first, floats(in[1]) + i * s->second, bytes_of(s->second));
    }
    return 0;
}

static int run_slice(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Lines *s = k->state;
    FOR_LINES(s) memcpy(floats(out) + i * s->out, floats(in[0]) + i * s->first + s->start, bytes_of(s->out));
    return 0;
}

static int run_pad_axis(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Lines *s = k->state;
    FOR_LINES(s) {
        float *y = floats(out) + i * s->out;
        memset(y, 0, bytes_of(s->start));
        memcpy(y + s->start, floats(in[0]) + i * s->first, bytes_of(s->first));
        memset(y + s->start + s->first, 0, bytes_of(s->out - s->start - s->first));
    }
    return 0;
}

int cpu_concat(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_concat;
    return lines_new(b, n, k, err) ? 0 : DRPO_E_MEMORY;
}

int cpu_slice(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_slice;
    return lines_new(b, n, k, err) ? 0 : DRPO_E_MEMORY;
}

int cpu_pad_axis(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_pad_axis;
    return lines_new(b, n, k, err) ? 0 : DRPO_E_MEMORY;
}

/* ---- tables ---- */
typedef struct Table {
    CpuBackend *b;
    const Param *frozen; /* NULL: the table is input 1 */
    int64_t tokens, rows, width;
} Table;

static Table *table_new(CpuBackend *b, const Node *ids, Shape table, Kernel *k, Error *err) {
    Table *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return NULL;
    s->tokens = shape_count(ids->shape);
    s->rows = table.dim[0];
    s->width = table.dim[1];
    return s;
}

static int run_embed(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Table *s = k->state;
    const int32_t *ids = in[0];
    size_t width = (size_t)s->width;
    for (int64_t t = 0; t < s->tokens; t++) {
        float *y = floats(out) + t * s->width;
        if (ids[t] < 0 || ids[t] >= s->rows)
            memset(y, 0, width * sizeof(float));
        else if (s->frozen)
            cpu_read_weight(s->b, s->frozen, (size_t)ids[t] * width, width, y);
        else
            memcpy(y, floats(in[1]) + ids[t] * s->width, width * sizeof(float));
    }
    return 0;
}

static int run_embed_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Table *s = k->state;
    const int32_t *ids = in[0];
    memset(out, 0, bytes_of(s->rows * s->width));
    for (int64_t t = 0; t < s->tokens; t++) {
        if (ids[t] < 0 || ids[t] >= s->rows) continue;
        float *row = floats(out) + ids[t] * s->width;
        s->b->simd.add(row, row, floats(in[1]) + t * s->width, (size_t)s->width);
    }
    return 0;
}

int cpu_embed(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Table *s = table_new(b, n->in[0], n->in[1]->shape, k, err);
    if (!s) return DRPO_E_MEMORY;
    const Node *table = n->in[1];
    if (table->op == OP_PARAM && !table->param->trainable) {
        s->frozen = table->param;
        k->packed = 1u << 1;
    }
    k->run = run_embed;
    return 0;
}

int cpu_embed_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_embed_grad;
    return table_new(b, n->in[0], n->shape, k, err) ? 0 : DRPO_E_MEMORY;
}

/* ---- upsampling ---- */
typedef struct Upsample {
    CpuBackend *b;
    int64_t lines, w, c; /* lines: images times rows of the small image */
} Upsample;

static int run_upsample(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Upsample *s = k->state;
    int64_t wide = 2 * s->w * s->c;
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->lines * wide > 16384)
    for (int64_t i = 0; i < s->lines; i++) {
        const float *x = floats(in[0]) + i * s->w * s->c;
        float *y = floats(out) + 2 * i * wide;
        for (int64_t p = 0; p < s->w; p++) {
            memcpy(y + 2 * p * s->c, x + p * s->c, bytes_of(s->c));
            memcpy(y + (2 * p + 1) * s->c, x + p * s->c, bytes_of(s->c));
        }
        memcpy(y + wide, y, bytes_of(wide));
    }
    return 0;
}

static int run_upsample_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Upsample *s = k->state;
    int64_t wide = 2 * s->w * s->c;
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->lines * wide > 16384)
    for (int64_t i = 0; i < s->lines; i++) {
        const float *dy = floats(in[0]) + 2 * i * wide;
        float *dx = floats(out) + i * s->w * s->c;
        for (int64_t p = 0; p < s->w; p++) {
            const float *top = dy + 2 * p * s->c, *bottom = top + wide;
            for (int64_t c = 0; c < s->c; c++)
                dx[p * s->c + c] = (top[c] + top[s->c + c]) + (bottom[c] + bottom[s->c + c]);
        }
    }
    return 0;
}

static int upsample(CpuBackend *b, Shape small, Kernel *k, Error *err) {
    Upsample *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    s->lines = small.dim[0] * small.dim[2];
    s->w = small.dim[3];
    s->c = small.dim[1];
    return 0;
}

int cpu_upsample(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_upsample;
    return upsample(b, n->in[0]->shape, k, err);
}

int cpu_upsample_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    k->run = run_upsample_grad;
    return upsample(b, n->shape, k, err);
}
