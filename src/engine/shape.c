/* Shape rules: what each op of ops.def makes of its inputs' shapes, and the one line that says why it cannot.
 *
 * Rules named after a family infer the result; shape_target takes the shape that the builder asks for (gradients,
 * layout) and checks that it fits. */
#include "engine/graph_private.h"

#include <stdarg.h>
#include <stdio.h>

static bool refuse(char reason[REASON], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(char reason[REASON], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(reason, REASON, format, args);
    va_end(args);
    return false;
}

static bool rank_is(const Node *n, int i, int rank, char reason[REASON]) {
    if (n->in[i]->shape.rank == rank) return true;
    return refuse(reason, "input %d must have rank %d", i, rank);
}

static bool is_param(const Node *n, int i, char reason[REASON]) {
    if (n->in[i]->op == OP_PARAM) return true;
    return refuse(reason, "the weight must be a parameter");
}

/* A bias, scale or shift over `count` channels. */
static bool is_vector(const Node *n, int i, int64_t count, const char *what, char reason[REASON]) {
    if (i >= n->n_in || !n->in[i]) return true;
    Shape s = n->in[i]->shape;
    if (s.rank == 1 && s.dim[0] == count) return true;
    return refuse(reason, "the %s must have shape [%lld]", what, (long long)count);
}

static bool is_residual(const Node *n, int i, char reason[REASON]) {
    if (i >= n->n_in || !n->in[i] || shape_equal(n->in[i]->shape, n->shape)) return true;
    return refuse(reason, "the residual must have the result's shape");
}

bool shape_leaf(Node *n, Shape target, char reason[REASON]) {
    n->shape = target;
    if (target.rank >= 0 && target.rank <= MAX_RANK) return true;
    return refuse(reason, "rank %d is not supported", target.rank);
}

/* ---- elementwise ---- */
bool shape_broadcast(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape a = n->in[0]->shape, b = n->in[1]->shape;
    n->shape = a;
    if (a.rank != b.rank) return refuse(reason, "the ranks differ");
    for (int i = 0; i < a.rank; i++) {
        if (a.dim[i] != b.dim[i] && a.dim[i] != 1 && b.dim[i] != 1)
            return refuse(reason, "dimension %d does not broadcast", i);
        if (a.dim[i] == 1) n->shape.dim[i] = b.dim[i];
    }
    return true;
}

static bool norm_fits(Node *n, char reason[REASON]) {
    Shape x = n->in[0]->shape;
    bool group = n->op == OP_GROUP_NORM || n->op == OP_GROUP_NORM_DX;
    if (group && !rank_is(n, 0, 4, reason)) return false;
    if (!group && x.rank != 2 && x.rank != 3) return refuse(reason, "layer norm takes rank 2 or 3");
    int64_t channels = group ? x.dim[1] : x.dim[x.rank - 1];
    if (group && (n->attr.groups < 1 || channels % n->attr.groups))
        return refuse(reason, "%lld channels do not divide into %d groups", (long long)channels, n->attr.groups);
    if (!is_vector(n, 1, channels, "norm's weight", reason)) return false;
    if (n->op == OP_LAYER_NORM_DX) return true;
    return is_vector(n, 2, channels, "norm's bias", reason);
}

bool shape_same(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    n->shape = n->in[0]->shape;
    bool norm =
        n->op == OP_GROUP_NORM || n->op == OP_GROUP_NORM_DX || n->op == OP_LAYER_NORM || n->op == OP_LAYER_NORM_DX;
    if (norm && !norm_fits(n, reason)) return false;
    bool rms = n->op == OP_RMS_NORM || n->op == OP_RMS_NORM_DX;
    if (rms && (n->shape.rank < 1 || n->shape.rank > 3)) return refuse(reason, "RMS norm takes rank 1-3");
    bool gradient = n->op == OP_ACT_GRAD || n->op == OP_GROUP_NORM_DX || n->op == OP_LAYER_NORM_DX;
    gradient = gradient || n->op == OP_RMS_NORM_DX;
    if (gradient && !shape_equal(n->in[n->n_in - 1]->shape, n->shape))
        return refuse(reason, "dy must have the shape of x");
    if ((n->op == OP_ACT || n->op == OP_ACT_GRAD) && (unsigned)n->attr.act >= ACT_COUNT)
        return refuse(reason, "activation %d does not exist", (int)n->attr.act);
    return true;
}

bool shape_half(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    n->shape = n->in[0]->shape;
    int last = n->shape.rank - 1;
    if (last < 0 || last == 3 || n->shape.dim[last] % 2)
        return refuse(reason, "the last dimension must be even, rank 1-3");
    n->shape.dim[last] /= 2;
    return true;
}

/* ---- products ---- */
bool shape_linear(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape x = n->in[0]->shape, w = n->in[1]->shape;
    if (!rank_is(n, 1, 2, reason)) return false;
    if (x.rank < 1 || x.rank > 3) return refuse(reason, "x must have rank 1-3");
    int last = x.rank - 1;
    if (x.dim[last] != w.dim[1])
        return refuse(reason, "the weight takes %lld features, x has %lld", (long long)w.dim[1],
                      (long long)x.dim[last]);
    n->shape = x;
    n->shape.dim[last] = w.dim[0];
    return is_vector(n, 2, w.dim[0], "bias", reason) && is_residual(n, 3, reason);
}

bool shape_matmul(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape a = n->in[0]->shape, b = n->in[1]->shape;
    if (a.rank != b.rank || a.rank < 2 || a.rank > 3)
        return refuse(reason, "both inputs must have rank 2, or both rank 3");
    int r = a.rank - 2;
    if (r && a.dim[0] != b.dim[0]) return refuse(reason, "the first dimensions differ");
    int64_t inner_a = a.dim[r + !n->attr.trans_a], inner_b = b.dim[r + n->attr.trans_b];
    if (inner_a != inner_b)
        return refuse(reason, "inner dimensions %lld and %lld differ", (long long)inner_a, (long long)inner_b);
    n->shape = a;
    n->shape.dim[r] = a.dim[r + n->attr.trans_a];
    n->shape.dim[r + 1] = b.dim[r + !n->attr.trans_b];
    return true;
}

bool shape_conv2d(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape x = n->in[0]->shape, w = n->in[1]->shape;
    Pad p = n->attr.pad;
    if (!is_param(n, 1, reason) || !rank_is(n, 0, 4, reason) || !rank_is(n, 1, 4, reason)) return false;
    if (x.dim[1] != w.dim[1])
        return refuse(reason, "the weight takes %lld channels, x has %lld", (long long)w.dim[1], (long long)x.dim[1]);
    if (n->attr.stride < 1) return refuse(reason, "stride %d", n->attr.stride);
    if (p.top < 0 || p.left < 0 || p.bottom < 0 || p.right < 0) return refuse(reason, "negative padding");
    int64_t h = x.dim[2] + p.top + p.bottom - w.dim[2], wide = x.dim[3] + p.left + p.right - w.dim[3];
    if (h < 0 || wide < 0) return refuse(reason, "the kernel is larger than the padded image");
    n->shape = shape4(x.dim[0], w.dim[0], h / n->attr.stride + 1, wide / n->attr.stride + 1);
    return is_vector(n, 2, w.dim[0], "bias", reason) && is_residual(n, 3, reason);
}

bool shape_attention(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape q = n->in[0]->shape, k = n->in[1]->shape;
    for (int i = 0; i < 3; i++)
        if (!rank_is(n, i, 3, reason)) return false;
    if (!shape_equal(k, n->in[2]->shape)) return refuse(reason, "k and v must have one shape");
    if (k.dim[0] != q.dim[0] && k.dim[0] != 1) return refuse(reason, "k and v must have q's batch or batch 1");
    if (k.dim[2] != q.dim[2]) return refuse(reason, "q and k must have the same width");
    if (n->attr.groups < 1 || q.dim[2] % n->attr.groups)
        return refuse(reason, "width %lld does not divide into %d heads", (long long)q.dim[2], n->attr.groups);
    if (n->attr.causal && k.dim[1] != q.dim[1]) return refuse(reason, "causal attention needs as many keys as queries");
    n->shape = q;
    return true;
}

/* ---- layout ---- */
bool shape_concat(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    Shape a = n->in[0]->shape, b = n->in[1]->shape;
    int axis = n->attr.axis;
    if (a.rank != b.rank || axis < 0 || axis >= a.rank) return refuse(reason, "ranks or axis %d do not fit", axis);
    for (int i = 0; i < a.rank; i++)
        if (i != axis && a.dim[i] != b.dim[i]) return refuse(reason, "dimension %d differs", i);
    n->shape = a;
    n->shape.dim[axis] += b.dim[axis];
    return true;
}

bool shape_embed(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    if (!rank_is(n, 0, 2, reason) || !rank_is(n, 1, 2, reason)) return false;
    Shape ids = n->in[0]->shape;
    n->shape = shape3(ids.dim[0], ids.dim[1], n->in[1]->shape.dim[1]);
    return true;
}

bool shape_dropout(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    n->shape = n->in[0]->shape;
    if (n->shape.rank != 2 && n->shape.rank != 3) return refuse(reason, "x must have rank 2 or 3");
    if (!rank_is(n, 1, 2, reason)) return false;
    if (!shape_equal(n->in[1]->shape, shape2(n->shape.dim[0], DROPOUT_KEY)))
        return refuse(reason, "there must be one key of %d numbers to a row", DROPOUT_KEY);
    if (!(n->attr.alpha >= 0 && n->attr.alpha < 1)) return refuse(reason, "the rate must be at least 0 and below 1");
    return true;
}

bool shape_upsample(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    if (!rank_is(n, 0, 4, reason)) return false;
    Shape x = n->in[0]->shape;
    n->shape = shape4(x.dim[0], x.dim[1], 2 * x.dim[2], 2 * x.dim[3]);
    return true;
}

bool shape_pool(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    if (!rank_is(n, 0, 4, reason)) return false;
    Shape x = n->in[0]->shape;
    int q = n->attr.pool;
    if (q < 1 || x.dim[2] % q || x.dim[3] % q) return refuse(reason, "cells of %d x %d do not tile the map", q, q);
    n->shape = shape4(x.dim[0], x.dim[1], x.dim[2] / q, x.dim[3] / q);
    return true;
}

bool shape_unshuffle(Node *n, Shape target, char reason[REASON]) {
    if (!shape_pool(n, target, reason)) return false;
    n->shape.dim[1] *= n->attr.pool * n->attr.pool;
    return true;
}

bool shape_shuffle(Node *n, Shape target, char reason[REASON]) {
    (void)target;
    if (!rank_is(n, 0, 4, reason)) return false;
    Shape x = n->in[0]->shape;
    int q = n->attr.pool;
    if (q < 1 || x.dim[1] % (q * q)) return refuse(reason, "the channels do not fill cells of %d x %d", q, q);
    n->shape = shape4(x.dim[0], x.dim[1] / (q * q), x.dim[2] * q, x.dim[3] * q);
    return true;
}

/* One of the shapes is the other with some dimensions replaced by 1. */
static bool broadcasts(Shape small, Shape large) {
    if (small.rank != large.rank) return false;
    for (int i = 0; i < small.rank; i++)
        if (small.dim[i] != large.dim[i] && small.dim[i] != 1) return false;
    return true;
}

/* `part` is `whole` restricted to [start, start + length) of one axis. */
static bool is_slice(const Node *n, Shape part, Shape whole) {
    int axis = n->attr.axis;
    if (part.rank != whole.rank || axis < 0 || axis >= whole.rank) return false;
    for (int i = 0; i < whole.rank; i++)
        if (i != axis && part.dim[i] != whole.dim[i]) return false;
    return n->attr.start >= 0 && part.dim[axis] > 0 && n->attr.start + part.dim[axis] <= whole.dim[axis];
}

bool shape_target(Node *n, Shape target, char reason[REASON]) {
    n->shape = target;
    Shape x = n->in[0]->shape;
    char text[96];
    bool fits = true;
    if (n->op == OP_SUM_TO) fits = broadcasts(target, x);
    if (n->op == OP_BROADCAST_TO) fits = broadcasts(x, target);
    if (n->op == OP_SLICE) fits = is_slice(n, target, x);
    if (n->op == OP_PAD_AXIS) fits = is_slice(n, x, target);
    if (n->op == OP_RESHAPE || n->op == OP_TO_IMAGE) fits = shape_count(x) == shape_count(target);
    if (n->op == OP_TO_TOKENS) fits = x.rank == 4;
    if (n->op == OP_PART) fits = n->attr.start >= 0 && n->attr.start + shape_count(target) <= shape_count(x);
    if (n->op == OP_LINEAR_DX && !is_residual(n, 2, reason)) return false;
    return fits || refuse(reason, "the result cannot have shape %s", shape_text(target, text));
}
