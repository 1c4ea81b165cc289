/* Attention of one block of queries of one head, without ever storing the score matrix: y = softmax(alpha q k^T) v.
 *
 * Everything is held transposed, one query per vector lane: S^T = K Q^T needs no copy of K, the softmax runs down
 * columns without sums across lanes, and O^T = V^T P^T needs no copy of V. The softmax is online: per query its maximum
 * m, the sum l of exp(s - m), and what was accumulated before is scaled down whenever m grows.
 *
 *     gradient: D = sum_j p_j (dy.v_j),  ds_j = alpha p_j (dy.v_j - D),  dq = sum_j ds_j k_j,  dk_j += ds_j q,  dv_j +=
 * p_j dy
 */
#include "engine/cpu/simd/gemm.h"
#include "engine/cpu/simd/parts.h"

enum { COLUMNS = ATTENTION_QUERIES, TILE = 64 }; /* TILE keys: two tiles of scores stay in the first-level cache */
#define LOG2_E 1.44269504f
#define MASKED -1e30f

/* Slices of the scratch memory; all [.., COLUMNS]. */
typedef struct Scratch {
    float *q, *dy, *out;       /* transposed: [d] rows */
    float *s, *dp;             /* one tile of keys */
    float *max, *sum, *d, *by; /* per query */
    float *q_rows, *dy_rows;   /* [queries, padded d] where d is no multiple of W */
    int columns;               /* queries rounded up to W */
} Scratch;

static Scratch scratch_of(const AttentionTask *t) {
    size_t plane = (size_t)(t->d + 16) * COLUMNS, tile = (size_t)ATTENTION_KEYS * COLUMNS;
    Scratch s = {.columns = (t->queries + W - 1) / W * W};
    float *at = t->work;
    s.s = at, at += tile;
    s.dp = at, at += tile;
    s.q = at, at += plane;
    s.dy = at, at += plane;
    s.out = at, at += plane;
    s.q_rows = at, at += plane;
    s.dy_rows = at, at += plane;
    s.max = at, at += COLUMNS;
    s.sum = at, at += COLUMNS;
    s.d = at, at += COLUMNS;
    s.by = at;
    return s;
}

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));

INLINE void transpose4(v4 *out, v4 a, v4 b, v4 c, v4 d) {
    v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    v4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/* x [queries, d] -> t [d, COLUMNS] times `factor`, zero in unused lanes; in blocks of 4 x 4 */
static void transpose_in(float *t, const float *x, size_t stride, int queries, int columns, int d, float factor) {
    int whole = d / 4 * 4, c = 0;
    for (; c + 4 <= queries; c += 4) {
        const float *from = x + (size_t)c * stride;
        for (int i = 0; i < whole; i += 4) {
            v4 block[4];
            transpose4(block, *(const v4 *)(from + i) * factor, *(const v4 *)(from + stride + i) * factor,
                       *(const v4 *)(from + 2 * stride + i) * factor, *(const v4 *)(from + 3 * stride + i) * factor);
            for (int k = 0; k < 4; k++) *(v4 *)(t + (size_t)(i + k) * COLUMNS + c) = block[k];
        }
        for (int i = whole; i < d; i++)
            for (int k = 0; k < 4; k++) t[(size_t)i * COLUMNS + c + k] = from[(size_t)k * stride + i] * factor;
    }
    for (; c < columns; c++)
        for (int i = 0; i < d; i++) t[(size_t)i * COLUMNS + c] = c < queries ? x[(size_t)c * stride + i] * factor : 0;
}

/* t [d, COLUMNS] -> x [queries, d], lane c times by[c]; in blocks of 4 x 4 */
static void transpose_out(float *x, size_t stride, const float *t, int queries, int d, const float *by) {
    int whole = d / 4 * 4, c = 0;
    for (; c + 4 <= queries; c += 4) {
        float *row = x + (size_t)c * stride;
        v4 factor = *(const v4 *)(by + c);
        for (int i = 0; i < whole; i += 4) {
            const float *from = t + (size_t)i * COLUMNS + c;
            v4 block[4];
            transpose4(block, *(const v4 *)from * factor, *(const v4 *)(from + COLUMNS) * factor,
                       *(const v4 *)(from + 2 * COLUMNS) * factor, *(const v4 *)(from + 3 * COLUMNS) * factor);
            for (int k = 0; k < 4; k++) *(v4 *)(row + (size_t)k * stride + i) = block[k];
        }
        for (int i = whole; i < d; i++)
            for (int k = 0; k < 4; k++) row[(size_t)k * stride + i] = t[(size_t)i * COLUMNS + c + k] * by[c + k];
    }
    for (; c < queries; c++)
        for (int i = 0; i < d; i++) x[(size_t)c * stride + i] = t[(size_t)i * COLUMNS + c] * by[c];
}

/* out [keys, columns] = rows of k or v times a transposed block */
static void scores(float *out, const float *rows, const float *block, const AttentionTask *t, int keys, int columns) {
    gemm(&(Gemm){.m = keys,
                 .n = columns,
                 .k = t->d,
                 .a = rows,
                 .a_row = t->kv_stride,
                 .a_col = 1,
                 .b = block,
                 .b_row = COLUMNS,
                 .c = out,
                 .c_row = COLUMNS});
}

/* out [d, columns] += rows^T weights, weights [keys, columns] */
static void weighted(float *out, const float *rows, const float *weights, const AttentionTask *t, int keys, int columns,
                     bool add) {
    gemm(&(Gemm){.m = t->d,
                 .n = columns,
                 .k = keys,
                 .a = rows,
                 .a_row = 1,
                 .a_col = t->kv_stride,
                 .b = weights,
                 .b_row = COLUMNS,
                 .c = out,
                 .c_row = COLUMNS,
                 .add = add});
}

/* out [keys, d] += weights [keys, queries] rows [queries, d] */
static void scatter(float *out, const float *weights, const float *rows, size_t stride, const AttentionTask *t,
                    int keys) {
    gemm(&(Gemm){.m = keys,
                 .n = t->d,
                 .k = t->queries,
                 .a = weights,
                 .a_row = COLUMNS,
                 .a_col = 1,
                 .b = rows,
                 .b_row = stride,
                 .c = out,
                 .c_row = t->kv_stride,
                 .add = true});
}

static void mask_future(float *s, const AttentionTask *t, int first_key, int keys) {
    for (int j = 0; j < keys; j++)
        for (int c = 0; c < t->queries && t->first_query + c < first_key + j; c++) s[(size_t)j * COLUMNS + c] = MASKED;
}

/* Keys that the block may see: all, or up to its last query. */
static int visible_keys(const AttentionTask *t) {
    int last = t->first_query + t->queries;
    return t->causal && last < t->keys ? last : t->keys;
}

static int tile_size(int keys, int first, int most) { return keys - first < most ? keys - first : most; }

/* Two maxima hide the latency of the comparison. */
INLINE vf column_max(const float *s, int keys, vf m) {
    vf other = m;
    int j = 0;
    for (; j + 2 <= keys; j += 2) {
        m = max_of(m, load(s + (size_t)j * COLUMNS));
        other = max_of(other, load(s + (size_t)(j + 1) * COLUMNS));
    }
    if (j < keys) m = max_of(m, load(s + (size_t)j * COLUMNS));
    return max_of(m, other);
}

/* Turns a tile of scores into weights exp(s - max) and brings what was accumulated so far to the new maximum. */
static void soften(const Scratch *w, float *s, int d, int keys, bool first) {
    for (int c = 0; c < w->columns; c += W) {
        vf old = first ? splat(MASKED) : load(w->max + c), m = column_max(s + c, keys, old);
        vf sum = {0};
        for (int j = 0; j < keys; j++) {
            vf p = exp2_of(load(s + (size_t)j * COLUMNS + c) - m);
            store(s + (size_t)j * COLUMNS + c, p);
            sum += p;
        }
        if (!first) {
            vf shrink = exp2_of(old - m);
            sum += load(w->sum + c) * shrink;
            for (int i = 0; i < d; i++)
                store(w->out + (size_t)i * COLUMNS + c, load(w->out + (size_t)i * COLUMNS + c) * shrink);
        }
        store(w->max + c, m);
        store(w->sum + c, sum);
    }
}

static void attention_forward(const AttentionTask *t) {
    Scratch w = scratch_of(t);
    int keys = visible_keys(t);
    transpose_in(w.q, t->q, t->q_stride, t->queries, w.columns, t->d, t->alpha * LOG2_E);
    for (int first = 0; first < keys; first += TILE) {
        int n = tile_size(keys, first, TILE);
        scores(w.s, t->k + (size_t)first * t->kv_stride, w.q, t, n, w.columns);
        if (t->causal) mask_future(w.s, t, first, n);
        soften(&w, w.s, t->d, n, first == 0);
        weighted(w.out, t->v + (size_t)first * t->kv_stride, w.s, t, n, w.columns, first > 0);
    }
    for (int c = 0; c < w.columns; c += W) store(w.by + c, 1.0f / load(w.sum + c));
    transpose_out(t->y, t->q_stride, w.out, t->queries, t->d, w.by);
}

/* ---- gradient ---- */

/* Scores of `n` keys, tile by tile: s, and its running maximum in w->max. */
static void grad_scores(const Scratch *w, const AttentionTask *t, int first, int n, bool anew) {
    for (int at = 0; at < n; at += TILE) {
        int m = tile_size(n, at, TILE);
        float *s = w->s + (size_t)at * COLUMNS;
        scores(s, t->k + (size_t)(first + at) * t->kv_stride, w->q, t, m, w->columns);
        if (t->causal) mask_future(s, t, first + at, m);
        for (int c = 0; c < w->columns; c += W)
            store(w->max + c, column_max(s + c, m, anew && at == 0 ? splat(MASKED) : load(w->max + c)));
    }
}

/* s -> exp(s - max) of `n` keys, dp = V dy; adds to sum and D. */
static void grad_weights(const Scratch *w, const AttentionTask *t, int first, int n) {
    for (int at = 0; at < n; at += TILE) {
        int m = tile_size(n, at, TILE);
        float *s = w->s + (size_t)at * COLUMNS, *dp = w->dp + (size_t)at * COLUMNS;
        scores(dp, t->v + (size_t)(first + at) * t->kv_stride, w->dy, t, m, w->columns);
        for (int c = 0; c < w->columns; c += W) {
            vf max = load(w->max + c), sum = load(w->sum + c), d = load(w->d + c);
            for (size_t j = (size_t)c; j < (size_t)m * COLUMNS; j += COLUMNS) {
                vf p = exp2_of(load(s + j) - max);
                store(s + j, p);
                sum += p;
                d += p * load(dp + j);
            }
            store(w->sum + c, sum);
            store(w->d + c, d);
        }
    }
}

/* Brings sum and D to a maximum that has grown since `old`. */
static void grad_rescale(const Scratch *w, const float *old) {
    for (int c = 0; c < w->columns; c += W) {
        vf shrink = exp2_of(load(old + c) - load(w->max + c));
        store(w->sum + c, load(w->sum + c) * shrink);
        store(w->d + c, load(w->d + c) * shrink);
    }
}

/* max, sum and D of each query over all keys; leaves s and dp of the last ATTENTION_KEYS. */
static void grad_statistics(const Scratch *w, const AttentionTask *t, int keys) {
    float old[COLUMNS] __attribute__((aligned(64)));
    memset(w->sum, 0, COLUMNS * sizeof(float));
    memset(w->d, 0, COLUMNS * sizeof(float));
    for (int first = 0; first < keys; first += ATTENTION_KEYS) {
        int n = tile_size(keys, first, ATTENTION_KEYS);
        memcpy(old, w->max, sizeof old);
        grad_scores(w, t, first, n, first == 0);
        if (first) grad_rescale(w, old);
        grad_weights(w, t, first, n);
    }
    for (int c = 0; c < w->columns; c += W) {
        vf by = 1.0f / load(w->sum + c);
        store(w->by + c, by);
        store(w->d + c, load(w->d + c) * by);
    }
}

/* weights -> probabilities, dp -> ds; s points at scores again where `scored` */
static void grad_softmax(const Scratch *w, float *s, float *dp, int keys, float alpha, bool scored) {
    for (int c = 0; c < w->columns; c += W) {
        vf max = load(w->max + c), by = load(w->by + c), d = load(w->d + c);
        for (size_t j = (size_t)c; j < (size_t)keys * COLUMNS; j += COLUMNS) {
            vf p = (scored ? exp2_of(load(s + j) - max) : load(s + j)) * by;
            store(s + j, p);
            store(dp + j, p * (load(dp + j) - d) * alpha);
        }
    }
}

/* Rows whose length is a multiple of W: x itself, or a padded copy of it. */
static const float *whole_rows(float *copy, const float *x, const AttentionTask *t, size_t *stride) {
    if (t->d % W == 0) {
        *stride = t->q_stride;
        return x;
    }
    *stride = (size_t)((t->d + W - 1) / W * W);
    for (int c = 0; c < t->queries; c++) {
        memcpy(copy + (size_t)c * *stride, x + (size_t)c * t->q_stride, (size_t)t->d * sizeof(float));
        memset(copy + (size_t)c * *stride + t->d, 0, (*stride - (size_t)t->d) * sizeof(float));
    }
    return copy;
}

static void attention_grad(const AttentionTask *t) {
    Scratch w = scratch_of(t);
    size_t q_stride, dy_stride;
    const float *q_rows = whole_rows(w.q_rows, t->q, t, &q_stride),
                *dy_rows = whole_rows(w.dy_rows, t->dy, t, &dy_stride);
    int keys = visible_keys(t);
    bool kept = keys <= ATTENTION_KEYS; /* else scores are computed again, tile by tile */
    transpose_in(w.q, t->q, t->q_stride, t->queries, w.columns, t->d, t->alpha * LOG2_E);
    transpose_in(w.dy, t->dy, t->q_stride, t->queries, w.columns, t->d, 1);
    grad_statistics(&w, t, keys);
    for (int first = 0; first < keys; first += TILE) {
        int n = tile_size(keys, first, TILE);
        size_t at = (size_t)first * t->kv_stride, kept_at = kept ? (size_t)first * COLUMNS : 0;
        float *s = w.s + kept_at, *dp = w.dp + kept_at;
        if (!kept) {
            scores(s, t->k + at, w.q, t, n, w.columns);
            if (t->causal) mask_future(s, t, first, n);
            scores(dp, t->v + at, w.dy, t, n, w.columns);
        }
        grad_softmax(&w, s, dp, n, t->alpha, !kept);
        scatter(t->dv + at, s, dy_rows, dy_stride, t, n);
        scatter(t->dk + at, dp, q_rows, q_stride, t, n);
        weighted(w.out, t->k + at, dp, t, n, w.columns, first > 0);
    }
    for (int c = 0; c < w.columns; c += W) store(w.by + c, splat(1));
    transpose_out(t->dq, t->q_stride, w.out, t->queries, t->d, w.by);
}

void PART(attention)(SimdKernels *k) {
    k->attention = attention_forward;
    k->attention_grad = attention_grad;
}
