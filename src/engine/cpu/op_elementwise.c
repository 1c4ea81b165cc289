/* Elementwise ops. Arrays are cut into pieces of a fixed size; each piece is one kernel call on one thread.
 *
 *     ADD, MUL   with broadcasting: dimensions are merged until at most a few loops over contiguous runs are left
 *     AFFINE     alpha x + beta          ACT, ACT_GRAD   f(x), f'(x) dy
 *     GEGLU      y = a gelu(g) for rows [a | g]; GEGLU_GRAD  [dy gelu(g) | dy a gelu'(g)] */
#include "engine/cpu/cpu.h"

enum { PIECE = 8192 }; /* elements */

typedef struct Flat {
    CpuBackend *b;
    Attr attr;
    int64_t count, row; /* elements of the result; GEGLU: length of one half */
} Flat;

static Flat *flat_new(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Flat *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return NULL;
    s->attr = n->attr;
    s->count = shape_count(n->shape);
    return s;
}

#define FOR_PIECES(s)                                                                                                  \
    _Pragma(                                                                                                           \
        "omp parallel for num_threads((s)->b->threads) schedule(static) if ((s)->count > 2 * PIECE)") for (int64_t     \
                                                                                                               at = 0; \
                                                                                                           at <        \
                                                                                                           (s)->count; \
                                                                                                           at +=       \
                                                                                                           PIECE)

static size_t piece(const Flat *s, int64_t at) { return (size_t)min_i64(PIECE, s->count - at); }

static int run_affine(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Flat *s = k->state;
    FOR_PIECES(s) s->b->simd.affine(floats(out) + at, floats(in[0]) + at, s->attr.alpha, s->attr.beta, piece(s, at));
    return 0;
}

static int run_act(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Flat *s = k->state;
    FOR_PIECES(s) s->b->simd.act(s->attr.act, floats(out) + at, floats(in[0]) + at, piece(s, at));
    return 0;
}

static int run_act_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Flat *s = k->state;
    FOR_PIECES(s)
    s->b->simd.act_grad(s->attr.act, floats(out) + at, floats(in[0]) + at, floats(in[1]) + at, piece(s, at));
    return 0;
}

static int run_geglu(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Flat *s = k->state;
    int64_t row = s->row, rows = s->count / row;
    const float *x = in[0]; /* [rows, 2 row] */
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->count > 2 * PIECE)
    for (int64_t r = 0; r < rows; r++)
        s->b->simd.geglu(floats(out) + r * row, x + 2 * r * row, x + (2 * r + 1) * row, (size_t)row);
    return 0;
}

static int run_geglu_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Flat *s = k->state;
    int64_t row = s->row, rows = s->count / (2 * row);
    const float *x = in[0], *dy = in[1]; /* [rows, 2 row], [rows, row] */
    float *dx = out;
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (s->count > 2 * PIECE)
    for (int64_t r = 0; r < rows; r++) {
        int64_t a = 2 * r * row, g = a + row;
        s->b->simd.geglu_grad(dx + a, dx + g, x + a, x + g, dy + r * row, (size_t)row);
    }
    return 0;
}

static int flat(CpuBackend *b, const Node *n, Kernel *k, int (*run)(const Kernel *, void *, void *const *, void *),
                Error *err) {
    k->run = run;
    return flat_new(b, n, k, err) ? 0 : DRPO_E_MEMORY;
}

int cpu_affine(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return flat(b, n, k, run_affine, err); }
int cpu_act(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return flat(b, n, k, run_act, err); }
int cpu_act_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) { return flat(b, n, k, run_act_grad, err); }

int cpu_geglu(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    TRY(flat(b, n, k, run_geglu, err));
    ((Flat *)k->state)->row = n->shape.dim[n->shape.rank - 1];
    return 0;
}

int cpu_geglu_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    TRY(flat(b, n, k, run_geglu_grad, err));
    ((Flat *)k->state)->row = n->shape.dim[n->shape.rank - 1] / 2;
    return 0;
}

/* ---- sums and products with broadcasting ---- */

/* Up to four loops over the result, the last one over a contiguous run; a stride of 0 repeats. */
typedef struct Pairwise {
    CpuBackend *b;
    void (*both)(float *y, const float *a, const float *b, size_t n);
    bool product;
    int64_t size[MAX_RANK], a[MAX_RANK], c[MAX_RANK]; /* strides of the two inputs */
} Pairwise;

/* Merges loops whose strides continue each other, towards the innermost. */
static void merge_loops(Pairwise *s, const int64_t *da, const int64_t *dc, const int64_t *dy) {
    int64_t step_a = 1, step_c = 1;
    int at = MAX_RANK - 1;
    for (int i = 0; i < MAX_RANK; i++) s->size[i] = 1;
    bool first = true;
    for (int i = MAX_RANK - 1; i >= 0; i--) {
        if (dy[i] == 1) continue;
        int64_t stride_a = da[i] == 1 ? 0 : step_a, stride_c = dc[i] == 1 ? 0 : step_c;
        bool joins = !first && stride_a == s->a[at] * s->size[at] && stride_c == s->c[at] * s->size[at];
        if (joins) {
            s->size[at] *= dy[i];
        } else {
            if (!first) at--;
            s->size[at] = dy[i];
            s->a[at] = stride_a;
            s->c[at] = stride_c;
            first = false;
        }
        step_a *= da[i];
        step_c *= dc[i];
    }
}

static void run_line(const Pairwise *s, float *y, const float *a, const float *c, int64_t n) {
    const SimdKernels *simd = &s->b->simd;
    if (s->a[3] && s->c[3]) {
        s->both(y, a, c, (size_t)n);
        return;
    }
    const float *vector = s->a[3] ? a : c;
    float scalar = s->a[3] ? *c : *a;
    if (s->product)
        simd->affine(y, vector, scalar, 0, (size_t)n);
    else
        simd->add_scalar(y, vector, scalar, (size_t)n);
}

static int run_pairwise(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const Pairwise *s = k->state;
    int64_t lines = s->size[0] * s->size[1] * s->size[2], run = s->size[3], cuts = (run + PIECE - 1) / PIECE;
    const float *a = in[0], *c = in[1];
#pragma omp parallel for num_threads(s->b->threads) schedule(static) if (lines * run > 2 * PIECE)
    for (int64_t i = 0; i < lines * cuts; i++) {
        int64_t line = i / cuts, at = i % cuts * PIECE;
        int64_t i2 = line % s->size[2], i1 = line / s->size[2] % s->size[1], i0 = line / s->size[2] / s->size[1];
        int64_t from_a = i0 * s->a[0] + i1 * s->a[1] + i2 * s->a[2] + at * s->a[3];
        int64_t from_c = i0 * s->c[0] + i1 * s->c[1] + i2 * s->c[2] + at * s->c[3];
        run_line(s, floats(out) + line * run + at, a + from_a, c + from_c, min_i64(PIECE, run - at));
    }
    return 0;
}

static Pairwise *pairwise(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Pairwise *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return NULL;
    Dims a = cpu_dims(n->in[0]->shape), c = cpu_dims(n->in[1]->shape), y = cpu_dims(n->shape);
    merge_loops(s, a.d, c.d, y.d);
    if (!s->a[3] && !s->c[3]) s->a[3] = s->c[3] = 1; /* a single element */
    k->run = run_pairwise;
    return s;
}

int cpu_add(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Pairwise *s = pairwise(b, n, k, err);
    if (!s) return DRPO_E_MEMORY;
    s->both = b->simd.add;
    return 0;
}

int cpu_mul(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Pairwise *s = pairwise(b, n, k, err);
    if (!s) return DRPO_E_MEMORY;
    s->both = b->simd.mul;
    s->product = true;
    return 0;
}
