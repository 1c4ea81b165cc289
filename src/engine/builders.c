/* Builders: one function per op that networks use. They fill in attributes and check what only the caller can get
 * wrong; shape.c checks how the shapes fit together. */
#include "engine/graph_private.h"

#include <math.h>

static Value append1(Graph *g, Op op, Attr attr, Value x, Shape target) { return append(g, op, attr, &x, 1, target); }

static Value append2(Graph *g, Op op, Attr attr, Value a, Value b) {
    return append(g, op, attr, (Value[]){a, b}, 2, (Shape){0});
}

static Value append3(Graph *g, Op op, Attr attr, Value a, Value b, Value c) {
    return append(g, op, attr, (Value[]){a, b, c}, 3, (Shape){0});
}

/* ---- elementwise ---- */
Value add(Graph *g, Value a, Value b) { return append2(g, OP_ADD, (Attr){0}, a, b); }
Value mul(Graph *g, Value a, Value b) { return append2(g, OP_MUL, (Attr){0}, a, b); }

Value affine(Graph *g, Value x, float alpha, float beta) {
    return append1(g, OP_AFFINE, (Attr){.alpha = alpha, .beta = beta}, x, (Shape){0});
}

Value act(Graph *g, Value x, Act kind) {
    if (kind == ACT_NONE) return x;
    return append1(g, OP_ACT, (Attr){.act = kind}, x, (Shape){0});
}

Value geglu(Graph *g, Value x) { return append1(g, OP_GEGLU, (Attr){0}, x, (Shape){0}); }

/* ---- products ---- */
Value linear(Graph *g, Value x, Value w, Value b) {
    return append(g, OP_LINEAR, (Attr){.alpha = 1}, (Value[]){x, w, b}, b ? 3 : 2, (Shape){0});
}

Value matmul(Graph *g, Value a, Value b, bool trans_a, bool trans_b) {
    return append2(g, OP_MATMUL, (Attr){.alpha = 1, .trans_a = trans_a, .trans_b = trans_b}, a, b);
}

Value conv2d(Graph *g, Value x, Value w, Value b, int stride, Pad pad) {
    return append(g, OP_CONV2D, (Attr){.stride = stride, .pad = pad}, (Value[]){x, w, b}, b ? 3 : 2, (Shape){0});
}

Value attention(Graph *g, Value q, Value k, Value v, int heads, bool causal) {
    Attr attr = {.groups = heads, .causal = causal};
    if (q && heads > 0 && q->shape.rank == 3)
        attr.alpha = (float)(1.0 / sqrt((double)q->shape.dim[2] / heads)); /* 1 / sqrt(d) */
    return append3(g, OP_ATTENTION, attr, q, k, v);
}

/* ---- norms ---- */
Value group_norm(Graph *g, Value x, Value w, Value b, int groups, float eps) {
    return append3(g, OP_GROUP_NORM, (Attr){.groups = groups, .eps = eps}, x, w, b);
}

Value layer_norm(Graph *g, Value x, Value w, Value b, float eps) {
    return append3(g, OP_LAYER_NORM, (Attr){.eps = eps}, x, w, b);
}

/* The weight is a factor like any other, so its gradient needs no op of its own. */
Value rms_norm(Graph *g, Value x, Value w, float eps) {
    Value h = append1(g, OP_RMS_NORM, (Attr){.eps = eps}, x, (Shape){0});
    if (!h || !w) return NULL;
    Shape row = {.rank = h->shape.rank, .dim = {1, 1, 1, 1}};
    row.dim[row.rank - 1] = shape_count(w->shape);
    return mul(g, h, reshape(g, w, row));
}

/* ---- layout ---- */
Value to_tokens(Graph *g, Value x) {
    Shape s = x ? x->shape : (Shape){0};
    Shape tokens = s.rank == 4 ? shape3(s.dim[0], s.dim[2] * s.dim[3], s.dim[1]) : (Shape){0};
    return append1(g, OP_TO_TOKENS, (Attr){0}, x, tokens);
}

Value to_image(Graph *g, Value x, int64_t h, int64_t w) {
    Shape s = x ? x->shape : (Shape){0};
    Shape image = s.rank == 3 ? shape4(s.dim[0], s.dim[2], h, w) : (Shape){0};
    return append1(g, OP_TO_IMAGE, (Attr){0}, x, image);
}

static bool order_matters(Shape s) { return s.rank == 4 && (s.dim[2] != 1 || s.dim[3] != 1); }

Value reshape(Graph *g, Value x, Shape s) {
    if (x && (order_matters(x->shape) || order_matters(s)) && !shape_equal(x->shape, s)) {
        char from[96], to[96];
        graph_mistake(g, "reshape of %s to %s: rank 4 is stored channels-last; use to_tokens or to_image",
                      shape_text(x->shape, from), shape_text(s, to));
        return NULL;
    }
    return append1(g, OP_RESHAPE, (Attr){0}, x, s);
}

Value concat(Graph *g, Value a, Value b, int axis) { return append2(g, OP_CONCAT, (Attr){.axis = axis}, a, b); }

Value slice(Graph *g, Value x, int axis, int64_t start, int64_t length) {
    Shape s = x ? x->shape : (Shape){0};
    if (axis >= 0 && axis < s.rank) s.dim[axis] = length;
    return append1(g, OP_SLICE, (Attr){.axis = axis, .start = start}, x, s);
}

Value dropout(Graph *g, Value x, Value keys, float p, int layer) {
    return append2(g, OP_DROPOUT, (Attr){.alpha = p, .start = layer}, x, keys);
}

Value embed(Graph *g, Value ids, Value table) { return append2(g, OP_EMBED, (Attr){0}, ids, table); }
Value upsample2x(Graph *g, Value x) { return append1(g, OP_UPSAMPLE2X, (Attr){0}, x, (Shape){0}); }

Value pixel_unshuffle(Graph *g, Value x, int q) {
    return append1(g, OP_PIXEL_UNSHUFFLE, (Attr){.pool = q}, x, (Shape){0});
}
Value pixel_shuffle(Graph *g, Value x, int q) { return append1(g, OP_PIXEL_SHUFFLE, (Attr){.pool = q}, x, (Shape){0}); }

/* ---- reductions ---- */
Value sum_to(Graph *g, Value x, Shape s) { return append1(g, OP_SUM_TO, (Attr){0}, x, s); }
Value broadcast_to(Graph *g, Value x, Shape s) { return append1(g, OP_BROADCAST_TO, (Attr){0}, x, s); }
Value avg_pool(Graph *g, Value x, int q) { return append1(g, OP_AVG_POOL, (Attr){.pool = q}, x, (Shape){0}); }

Value pool_std(Graph *g, Value x, int q, float eps, bool floor) {
    return append1(g, OP_POOL_STD, (Attr){.pool = q, .eps = eps, .floor = floor}, x, (Shape){0});
}
