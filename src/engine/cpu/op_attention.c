/* Attention and its gradient: cuts the work into blocks of queries of one head (kernels: simd/attention.c).
 *
 *     ATTENTION       y [N,Tq,H*d] = softmax(alpha q k^T) v, k and v of batch N or 1
 *     ATTENTION_GRAD  flat [dq | dk | dv]
 *
 * Gradients of k and v are sums over blocks of queries. The blocks of one head are divided into a fixed number of
 * groups, each with its own partial sum, added up in order: the result does not depend on the number of threads. */
#include <omp.h>
#include <string.h>

#include "engine/cpu/cpu.h"

enum { LEAST_ITEMS = 16 }; /* parallel pieces that a gradient is cut into at least, where it has as many blocks */

typedef struct Attention {
    CpuBackend *b;
    int64_t n, kv_n, tq, tk, heads, d, width; /* width = heads * d */
    int64_t blocks;                           /* blocks of queries per image */
    int64_t groups;                           /* gradient: partial sums per head and image of k */
    float alpha;
    bool causal;
} Attention;

static size_t scratch_floats(const Attention *s) {
    return aligned(attention_work((int)s->d) * sizeof(float)) / sizeof(float);
}

static AttentionTask task_of(const Attention *s, void *const *in, int64_t image, int64_t head, int64_t block) {
    int64_t first = block * ATTENTION_QUERIES, q_at = (image * s->tq + first) * s->width + head * s->d;
    int64_t kv_at = (s->kv_n == 1 ? 0 : image) * s->tk * s->width + head * s->d;
    return (AttentionTask){.q = floats(in[0]) + q_at,
                           .k = floats(in[1]) + kv_at,
                           .v = floats(in[2]) + kv_at,
                           .q_stride = (size_t)s->width,
                           .kv_stride = (size_t)s->width,
                           .queries = (int)min_i64(ATTENTION_QUERIES, s->tq - first),
                           .keys = (int)s->tk,
                           .d = (int)s->d,
                           .first_query = (int)first,
                           .alpha = s->alpha,
                           .causal = s->causal};
}

static int run_forward(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Attention *s = k->state;
    int64_t items = s->n * s->heads * s->blocks;
#pragma omp parallel for num_threads(s->b->threads) schedule(dynamic) if (items > 1)
    for (int64_t i = 0; i < items; i++) {
        int64_t image = i / s->blocks / s->heads, head = i / s->blocks % s->heads;
        AttentionTask t = task_of(s, in, image, head, i % s->blocks);
        t.y = floats(out) + (t.q - floats(in[0]));
        t.work = floats(workspace) + (size_t)omp_get_thread_num() * scratch_floats(s);
        s->b->simd.attention(&t);
    }
    return 0;
}

/* ---- gradient ---- */

static void clear_head(float *x, const Attention *s) {
    for (int64_t t = 0; t < s->tk; t++) memset(x + t * s->width, 0, sizeof(float) * (size_t)s->d);
}

/* One group of blocks of queries that share k: all images' where k has batch 1, else one image's. */
static void grad_item(const Attention *s, float *dq, float *dk, float *dv, void *const *in, float *work, int64_t item) {
    int64_t group = item % s->groups, head = item / s->groups % s->heads, kv_image = item / s->groups / s->heads;
    int64_t blocks = s->n / s->kv_n * s->blocks, at = kv_image * s->tk * s->width + head * s->d;
    clear_head(dk + at, s);
    clear_head(dv + at, s);
    for (int64_t i = blocks * group / s->groups; i < blocks * (group + 1) / s->groups; i++) {
        int64_t image = kv_image + i / s->blocks;
        AttentionTask t = task_of(s, in, image, head, i % s->blocks);
        t.dy = floats(in[3]) + (t.q - floats(in[0]));
        t.dq = dq + (t.q - floats(in[0]));
        t.dk = dk + at;
        t.dv = dv + at;
        t.work = work;
        s->b->simd.attention_grad(&t);
    }
}

static int run_grad(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Attention *s = k->state;
    int64_t items = s->kv_n * s->heads * s->groups, kv_count = s->kv_n * s->tk * s->width;
    float *dq = out, *dkv = dq + s->n * s->tq * s->width;                           /* [dk | dv] */
    float *partial = floats(workspace) + (size_t)s->b->threads * scratch_floats(s); /* [groups, 2, kv_count] */
    float *sums = s->groups > 1 ? partial : dkv;
    const int64_t piece = 4096;
#pragma omp parallel num_threads(s->b->threads) if (items > 1)
    {
        float *work = floats(workspace) + (size_t)omp_get_thread_num() * scratch_floats(s);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < items; i++) {
            float *dk = sums + i % s->groups * 2 * kv_count;
            grad_item(s, dq, dk, dk + kv_count, in, work, i);
        }
        if (s->groups > 1) {
#pragma omp for schedule(static)
            for (int64_t at = 0; at < 2 * kv_count; at += piece)
                s->b->simd.column_sum(dkv + at, partial + at, (size_t)s->groups,
                                      (size_t)min_i64(piece, 2 * kv_count - at), (size_t)(2 * kv_count));
        }
    }
    return 0;
}

static Attention *prepare(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Attention *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return NULL;
    Shape q = n->in[0]->shape, kv = n->in[1]->shape;
    s->n = q.dim[0];
    s->tq = q.dim[1];
    s->width = q.dim[2];
    s->kv_n = kv.dim[0];
    s->tk = kv.dim[1];
    s->heads = n->attr.groups;
    s->d = s->width / s->heads;
    s->blocks = (s->tq + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
    s->alpha = n->attr.alpha;
    s->causal = n->attr.causal;
    k->workspace = (size_t)b->threads * scratch_floats(s) * sizeof(float);
    return s;
}

int cpu_attention(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (!prepare(b, n, k, err)) return DRPO_E_MEMORY;
    k->run = run_forward;
    return 0;
}

int cpu_attention_grad(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Attention *s = prepare(b, n, k, err);
    if (!s) return DRPO_E_MEMORY;
    int64_t blocks = s->n / s->kv_n * s->blocks, heads = s->kv_n * s->heads;
    s->groups = min_i64(blocks, (LEAST_ITEMS + heads - 1) / heads);
    if (s->groups > 1) k->workspace += sizeof(float) * (size_t)(s->groups * 2 * s->kv_n * s->tk * s->width);
    k->run = run_grad;
    return 0;
}
