/* The one table of op cases: how to build each op at shapes worth testing. Tests compare backends and gradients with
 * it; it needs no test framework, so that other programs can use it as well. To cover a new op, add a build function
 * and rows. */
#ifndef DRPO_TESTS_OP_CASES_H
#define DRPO_TESTS_OP_CASES_H

#include "engine/autodiff.h"
#include "engine/plan.h"

#include <stdio.h>
#include <string.h>

typedef struct OpCase OpCase;

enum { CASE_LEAVES = 6 };

/* A case under construction: its leaves with their values, in host order. */
typedef struct CaseGraph {
    const OpCase *row;
    Graph *g;
    int n_leaf;
    Value leaf[CASE_LEAVES];
    float *values[CASE_LEAVES];
    Value ids; /* EMBED only */
    int32_t *id_values;
    Value y;
} CaseGraph;

struct OpCase {
    const char *name;
    Value (*build)(CaseGraph *c);
    Shape a, b, c; /* inputs; what they mean is the build function's business */
    Attr attr;
    bool forward_only; /* activations fused into products have no gradient */
    bool no_bias;
    bool slow; /* too large for finite differences on the reference backend */
};

/* Multiples of 1/1024 shifted by half of that: exact in float32 with the steps of finite differences, and never at a
 * kink. */
static inline float case_value(int leaf, size_t i) {
    uint64_t h = (uint64_t)(leaf + 1) * 0x9E3779B97F4A7C15u + (i + 1) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 31) * 0x94D049BB133111EBu;
    h ^= h >> 29;
    return ((float)(h % 2048) - 1024.0f + 0.5f) / 1024.0f;
}

static inline float *case_values(CaseGraph *c, int leaf, size_t count, float scale, float shift) {
    float *values = arena_alloc(graph_arena(c->g), (count + 1) * sizeof *values);
    for (size_t i = 0; values && i < count; i++) values[i] = shift + scale * case_value(leaf, i);
    return values;
}

static inline Value case_input(CaseGraph *c, Shape s) {
    char name[16];
    snprintf(name, sizeof name, "x%d", c->n_leaf);
    c->values[c->n_leaf] = case_values(c, c->n_leaf, (size_t)shape_count(s), 1, 0);
    return c->leaf[c->n_leaf++] = input(c->g, name, DT_F32, s);
}

static inline Value case_param(CaseGraph *c, Shape s, float scale, float shift) {
    Param *p = arena_alloc(graph_arena(c->g), sizeof *p);
    if (!p) return NULL;
    float *values = case_values(c, c->n_leaf, (size_t)shape_count(s), scale, shift);
    *p = (Param){.name = "weight", .dtype = DT_F32, .shape = s, .data = values, .trainable = true};
    c->values[c->n_leaf] = values;
    return c->leaf[c->n_leaf++] = param(c->g, p);
}

/* ---- build functions ---- */
static inline Value case_add(CaseGraph *c) { return add(c->g, case_input(c, c->row->a), case_input(c, c->row->b)); }
static inline Value case_mul(CaseGraph *c) { return mul(c->g, case_input(c, c->row->a), case_input(c, c->row->b)); }
static inline Value case_affine(CaseGraph *c) { return affine(c->g, case_input(c, c->row->a), -1.5f, 0.25f); }
static inline Value case_act(CaseGraph *c) {
    return act(c->g, affine(c->g, case_input(c, c->row->a), 3, 0), c->row->attr.act);
}
static inline Value case_geglu(CaseGraph *c) { return geglu(c->g, case_input(c, c->row->a)); }

/* a: x, b: weight [out,in], c: residual or rank 0 */
static inline Value case_linear(CaseGraph *c) {
    Value x = case_input(c, c->row->a), w = case_param(c, c->row->b, 0.5f, 0);
    Value bias = c->row->no_bias ? NULL : case_param(c, shape1(c->row->b.dim[0]), 1, 0);
    Value residual = c->row->c.rank ? case_input(c, c->row->c) : NULL;
    return append(c->g, OP_LINEAR, c->row->attr, (Value[]){x, w, bias, residual}, 4, (Shape){0});
}

static inline Value case_lora(CaseGraph *c) {
    Value x = case_input(c, c->row->a);
    Value down = case_param(c, shape2(3, c->row->b.dim[1]), 0.5f, 0),
          up = case_param(c, shape2(c->row->b.dim[0], 3), 0.5f, 0);
    Value w = case_param(c, c->row->b, 0.5f, 0);
    return add(c->g, linear(c->g, x, w, NULL),
               affine(c->g, linear(c->g, linear(c->g, x, down, NULL), up, NULL), 0.75f, 0));
}

static inline Value case_matmul(CaseGraph *c) {
    Attr attr = c->row->attr;
    return matmul(c->g, case_input(c, c->row->a), case_input(c, c->row->b), attr.trans_a, attr.trans_b);
}

static inline Value case_conv2d(CaseGraph *c) {
    Value x = case_input(c, c->row->a), w = case_param(c, c->row->b, 0.5f, 0);
    Value bias = c->row->no_bias ? NULL : case_param(c, shape1(c->row->b.dim[0]), 1, 0);
    Value residual = c->row->c.rank ? case_input(c, c->row->c) : NULL;
    return append(c->g, OP_CONV2D, c->row->attr, (Value[]){x, w, bias, residual}, 4, (Shape){0});
}

static inline Value case_attention(CaseGraph *c) {
    Value q = case_input(c, c->row->a), k = case_input(c, c->row->b), v = case_input(c, c->row->b);
    return attention(c->g, affine(c->g, q, 2, 0), k, v, c->row->attr.groups, c->row->attr.causal);
}

static inline Value case_group_norm(CaseGraph *c) {
    Shape channels = shape1(c->row->a.dim[1]);
    Value x = case_input(c, c->row->a), w = case_param(c, channels, 0.5f, 1), b = case_param(c, channels, 1, 0);
    Value y = group_norm(c->g, x, w, b, c->row->attr.groups, 1e-5f);
    if (y) y->attr.act = c->row->attr.act;
    return y;
}

static inline Value case_layer_norm(CaseGraph *c) {
    Shape channels = shape1(c->row->a.dim[c->row->a.rank - 1]);
    Value x = case_input(c, c->row->a), w = case_param(c, channels, 0.5f, 1), b = case_param(c, channels, 1, 0);
    return layer_norm(c->g, x, w, b, 1e-5f);
}

static inline Value case_rms_norm(CaseGraph *c) {
    Value x = case_input(c, c->row->a), w = case_param(c, shape1(c->row->a.dim[c->row->a.rank - 1]), 0.5f, 1);
    return rms_norm(c->g, x, w, 1e-5f);
}

/* A view alone runs nothing: a product on either side shows a wrong order of elements. */
static inline Value case_tokens(CaseGraph *c) {
    Value x = case_input(c, c->row->a);
    Value tokens = mul(c->g, to_tokens(c->g, x), case_input(c, c->row->b));
    Value image = to_image(c->g, tokens, c->row->a.dim[2], c->row->a.dim[3]);
    return mul(c->g, image, image);
}

static inline Value case_reshape(CaseGraph *c) {
    Value x = reshape(c->g, affine(c->g, case_input(c, c->row->a), 2, 0), c->row->b);
    return mul(c->g, x, case_input(c, c->row->b));
}

static inline Value case_concat(CaseGraph *c) {
    return concat(c->g, case_input(c, c->row->a), case_input(c, c->row->b), c->row->attr.axis);
}

static inline Value case_slice(CaseGraph *c) {
    int axis = c->row->attr.axis;
    return slice(c->g, case_input(c, c->row->a), axis, c->row->attr.start, c->row->b.dim[axis]);
}

static inline Value case_embed(CaseGraph *c) {
    size_t count = (size_t)shape_count(c->row->a);
    c->ids = input(c->g, "ids", DT_I32, c->row->a);
    c->id_values = arena_alloc(graph_arena(c->g), count * sizeof *c->id_values);
    for (size_t i = 0; c->id_values && i < count; i++)
        c->id_values[i] = (int32_t)((i * 7 + 1) % (size_t)c->row->b.dim[0]);
    return embed(c->g, c->ids, case_param(c, c->row->b, 1, 0));
}

/* Rows 0, 2, 4, ... are dropped from, the others pass. */
static inline Value case_dropout(CaseGraph *c) {
    const int64_t rows = c->row->a.dim[0];
    c->ids = input(c->g, "keys", DT_I32, shape2(rows, DROPOUT_KEY));
    c->id_values = arena_alloc(graph_arena(c->g), (size_t)(rows * DROPOUT_KEY) * sizeof *c->id_values);
    for (int i = 0; c->id_values && i < rows * DROPOUT_KEY; i++)
        c->id_values[i] = i % DROPOUT_KEY ? i * 1000003 : i / DROPOUT_KEY % 2 == 0;
    return dropout(c->g, case_input(c, c->row->a), c->ids, c->row->attr.alpha, (int)c->row->attr.start);
}

static inline Value case_upsample(CaseGraph *c) { return upsample2x(c->g, case_input(c, c->row->a)); }
static inline Value case_sum_to(CaseGraph *c) { return sum_to(c->g, case_input(c, c->row->a), c->row->b); }
static inline Value case_broadcast_to(CaseGraph *c) { return broadcast_to(c->g, case_input(c, c->row->a), c->row->b); }
static inline Value case_unshuffle(CaseGraph *c) {
    return pixel_unshuffle(c->g, case_input(c, c->row->a), c->row->attr.pool);
}
static inline Value case_shuffle(CaseGraph *c) {
    return pixel_shuffle(c->g, case_input(c, c->row->a), c->row->attr.pool);
}
static inline Value case_avg_pool(CaseGraph *c) { return avg_pool(c->g, case_input(c, c->row->a), c->row->attr.pool); }

static inline Value case_pool_std(CaseGraph *c) {
    return pool_std(c->g, case_input(c, c->row->a), c->row->attr.pool, c->row->attr.eps, c->row->attr.floor);
}

#define S1(a)                                                                                                          \
    {                                                                                                                  \
        1, { a }                                                                                                       \
    }
#define S2(a, b)                                                                                                       \
    {                                                                                                                  \
        2, { a, b }                                                                                                    \
    }
#define S3(a, b, c)                                                                                                    \
    {                                                                                                                  \
        3, { a, b, c }                                                                                                 \
    }
#define S4(a, b, c, d)                                                                                                 \
    {                                                                                                                  \
        4, { a, b, c, d }                                                                                              \
    }
#define PAD(t, l, b, r)                                                                                                \
    { t, l, b, r }

static const OpCase op_cases[] = {
    /* elementwise and broadcasting */
    {"add same", case_add, .a = S4(2, 3, 5, 4), .b = S4(2, 3, 5, 4)},
    {"add one image", case_add, .a = S4(1, 3, 5, 4), .b = S4(2, 3, 5, 4)},
    {"add per channel and image", case_add, .a = S4(2, 7, 3, 5), .b = S4(2, 7, 1, 1)},
    {"add both sides broadcast", case_add, .a = S4(2, 1, 3, 1), .b = S4(1, 7, 1, 5)},
    {"add tokens", case_add, .a = S3(2, 5, 7), .b = S3(1, 5, 7)},
    {"add rows", case_add, .a = S2(3, 5), .b = S2(1, 5)},
    {"add long", case_add, .a = S1(1037), .b = S1(1037)},
    {"mul same", case_mul, .a = S3(2, 3, 5), .b = S3(2, 3, 5)},
    {"mul per channel", case_mul, .a = S4(2, 5, 3, 3), .b = S4(1, 5, 1, 1)},
    {"mul per image", case_mul, .a = S4(3, 5, 3, 3), .b = S4(3, 1, 1, 1)},
    {"mul per position", case_mul, .a = S4(2, 5, 3, 4), .b = S4(2, 1, 3, 4)},
    {"mul by column", case_mul, .a = S3(2, 3, 5), .b = S3(2, 3, 1)},
    {"affine", case_affine, .a = S3(2, 3, 17)},
    {"affine rank 4", case_affine, .a = S4(2, 3, 5, 7)},
    {"silu", case_act, .a = S4(2, 3, 5, 7), .attr = {.act = ACT_SILU}},
    {"gelu", case_act, .a = S3(2, 5, 33), .attr = {.act = ACT_GELU}},
    {"quick gelu", case_act, .a = S3(2, 5, 33), .attr = {.act = ACT_QUICK_GELU}},
    {"relu", case_act, .a = S4(2, 3, 5, 7), .attr = {.act = ACT_RELU}},
    {"square", case_act, .a = S2(5, 33), .attr = {.act = ACT_SQUARE}},
    {"gelu tanh", case_act, .a = S1(257), .attr = {.act = ACT_GELU_TANH}},
    {"geglu", case_geglu, .a = S3(2, 5, 26)},
    {"geglu rank 2", case_geglu, .a = S2(3, 34)},
    {"dropout", case_dropout, .a = S3(3, 5, 7), .attr = {.alpha = 0.4f, .start = 5}},
    {"dropout rank 2", case_dropout, .a = S2(2, 33), .attr = {.alpha = 0.1f}},
    {"dropout of nothing", case_dropout, .a = S2(1, 9), .attr = {.alpha = 0}},
    {"dropout long rows", case_dropout, .a = S3(2, 100, 97), .attr = {.alpha = 0.25f, .start = 1}, .slow = true},
    /* products */
    {"linear", case_linear, .a = S2(5, 7), .b = S2(9, 7), .attr = {.alpha = 1}},
    {"linear tokens, no bias", case_linear, .a = S3(2, 5, 16), .b = S2(24, 16), .attr = {.alpha = 1}, .no_bias = true},
    {"linear residual, alpha", case_linear, .a = S3(2, 5, 7), .b = S2(9, 7), .c = S3(2, 5, 9), .attr = {.alpha = 0.5f}},
    {"linear residual, no bias", case_linear, .a = S3(1, 6, 4), .b = S2(32, 4), .c = S3(1, 6, 32), .attr = {.alpha = 2},
     .no_bias = true},
    {"linear one row", case_linear, .a = S2(1, 33), .b = S2(17, 33), .attr = {.alpha = 1}},
    {"linear silu", case_linear, .a = S2(3, 7), .b = S2(9, 7), .attr = {.alpha = 1, .act = ACT_SILU},
     .forward_only = true},
    {"linear gelu", case_linear, .a = S3(2, 5, 8), .b = S2(40, 8), .attr = {.alpha = 1, .act = ACT_GELU},
     .forward_only = true},
    {"linear quick gelu", case_linear, .a = S3(2, 5, 8), .b = S2(40, 8), .attr = {.alpha = 1, .act = ACT_QUICK_GELU},
     .forward_only = true},
    {"linear gelu tanh", case_linear, .a = S3(2, 5, 8), .b = S2(40, 8), .attr = {.alpha = 1, .act = ACT_GELU_TANH},
     .forward_only = true},
    {"linear residual relu", case_linear, .a = S3(2, 5, 8), .b = S2(9, 8), .c = S3(2, 5, 9),
     .attr = {.alpha = 0.5f, .act = ACT_RELU}, .forward_only = true},
    {"linear large", case_linear, .a = S3(2, 96, 160), .b = S2(224, 160), .attr = {.alpha = 1}, .slow = true},
    {"lora", case_lora, .a = S3(2, 5, 7), .b = S2(9, 7)},
    {"matmul", case_matmul, .a = S2(3, 5), .b = S2(5, 7)},
    {"matmul ta", case_matmul, .a = S2(5, 3), .b = S2(5, 7), .attr = {.trans_a = true}},
    {"matmul tb", case_matmul, .a = S2(3, 5), .b = S2(7, 5), .attr = {.trans_b = true}},
    {"matmul ta tb", case_matmul, .a = S2(5, 3), .b = S2(7, 5), .attr = {.trans_a = true, .trans_b = true}},
    {"matmul batch", case_matmul, .a = S3(3, 4, 5), .b = S3(3, 5, 2)},
    {"matmul batch ta tb", case_matmul, .a = S3(2, 5, 3), .b = S3(2, 7, 5), .attr = {.trans_a = true, .trans_b = true}},
    {"conv 3x3", case_conv2d, .a = S4(2, 3, 7, 6), .b = S4(5, 3, 3, 3), .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}},
    {"conv 3x3 residual", case_conv2d, .a = S4(2, 4, 5, 6), .b = S4(3, 4, 3, 3), .c = S4(2, 3, 5, 6),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}},
    {"conv 1x1, no bias", case_conv2d, .a = S4(2, 6, 5, 3), .b = S4(4, 6, 1, 1), .attr = {.stride = 1},
     .no_bias = true},
    {"conv 3x3 stride 2", case_conv2d, .a = S4(2, 3, 8, 7), .b = S4(4, 3, 3, 3),
     .attr = {.stride = 2, .pad = PAD(1, 1, 1, 1)}},
    {"conv 3x3 stride 2, pad right and bottom", case_conv2d, .a = S4(1, 3, 8, 8), .b = S4(4, 3, 3, 3),
     .attr = {.stride = 2, .pad = PAD(0, 0, 1, 1)}},
    {"conv 1x1 stride 2", case_conv2d, .a = S4(2, 3, 7, 6), .b = S4(4, 3, 1, 1), .attr = {.stride = 2},
     .no_bias = true},
    {"conv patches", case_conv2d, .a = S4(2, 3, 8, 12), .b = S4(8, 3, 4, 4), .attr = {.stride = 4}},
    {"conv 7x7 stride 2", case_conv2d, .a = S4(1, 3, 13, 11), .b = S4(4, 3, 7, 7),
     .attr = {.stride = 2, .pad = PAD(3, 3, 3, 3)}},
    {"conv pad left", case_conv2d, .a = S4(1, 2, 4, 5), .b = S4(3, 2, 2, 3),
     .attr = {.stride = 1, .pad = PAD(1, 2, 0, 0)}},
    {"conv relu residual", case_conv2d, .a = S4(2, 4, 5, 6), .b = S4(3, 4, 3, 3), .c = S4(2, 3, 5, 6),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1), .act = ACT_RELU}, .forward_only = true},
    {"conv silu", case_conv2d, .a = S4(2, 4, 5, 6), .b = S4(8, 4, 3, 3),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1), .act = ACT_SILU}, .forward_only = true},
    {"conv 3x3 large", case_conv2d, .a = S4(2, 64, 16, 16), .b = S4(96, 64, 3, 3), .c = S4(2, 96, 16, 16),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}, .slow = true},
    {"conv 3x3 large, odd", case_conv2d, .a = S4(1, 48, 19, 13), .b = S4(80, 48, 3, 3),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}, .slow = true},
    {"attention", case_attention, .a = S3(2, 5, 12), .b = S3(2, 7, 12), .attr = {.groups = 3}},
    {"attention shared text", case_attention, .a = S3(3, 4, 10), .b = S3(1, 7, 10), .attr = {.groups = 2}},
    {"attention causal", case_attention, .a = S3(2, 6, 8), .b = S3(2, 6, 8), .attr = {.groups = 2, .causal = true}},
    {"attention one key", case_attention, .a = S3(2, 3, 8), .b = S3(2, 1, 8), .attr = {.groups = 1}},
    {"attention large", case_attention, .a = S3(2, 100, 128), .b = S3(2, 100, 128), .attr = {.groups = 2},
     .slow = true},
    {"attention large, shared text", case_attention, .a = S3(3, 64, 80), .b = S3(1, 77, 80), .attr = {.groups = 2},
     .slow = true},
    /* norms */
    {"group norm", case_group_norm, .a = S4(2, 6, 3, 5), .attr = {.groups = 3}},
    {"group norm silu", case_group_norm, .a = S4(2, 8, 4, 3), .attr = {.groups = 4, .act = ACT_SILU}},
    {"group norm relu", case_group_norm, .a = S4(2, 6, 3, 3), .attr = {.groups = 2, .act = ACT_RELU}},
    {"group norm gelu", case_group_norm, .a = S4(1, 6, 3, 3), .attr = {.groups = 3, .act = ACT_GELU}},
    {"group norm one group", case_group_norm, .a = S4(1, 5, 3, 3), .attr = {.groups = 1}},
    {"group norm per channel", case_group_norm, .a = S4(2, 5, 3, 3), .attr = {.groups = 5, .act = ACT_SILU}},
    {"group norm large", case_group_norm, .a = S4(2, 96, 17, 9), .attr = {.groups = 32, .act = ACT_SILU}, .slow = true},
    {"layer norm", case_layer_norm, .a = S3(2, 5, 12)},
    {"layer norm odd", case_layer_norm, .a = S2(7, 33)},
    {"layer norm large", case_layer_norm, .a = S3(2, 65, 320), .slow = true},
    {"rms norm", case_rms_norm, .a = S3(2, 5, 12)},
    {"rms norm odd", case_rms_norm, .a = S2(7, 33)},
    {"rms norm large", case_rms_norm, .a = S3(2, 65, 320), .slow = true},
    /* layout */
    {"tokens and image", case_tokens, .a = S4(2, 3, 4, 5), .b = S3(2, 20, 3)},
    {"reshape", case_reshape, .a = S3(2, 3, 10), .b = S2(6, 10)},
    {"reshape to image", case_reshape, .a = S2(2, 6), .b = S4(2, 6, 1, 1)},
    {"concat channels", case_concat, .a = S4(2, 3, 4, 5), .b = S4(2, 6, 4, 5), .attr = {.axis = 1}},
    {"concat images", case_concat, .a = S4(2, 3, 4, 5), .b = S4(1, 3, 4, 5), .attr = {.axis = 0}},
    {"concat rows", case_concat, .a = S4(1, 3, 4, 5), .b = S4(1, 3, 2, 5), .attr = {.axis = 2}},
    {"concat tokens", case_concat, .a = S3(2, 1, 7), .b = S3(2, 5, 7), .attr = {.axis = 1}},
    {"concat last", case_concat, .a = S2(3, 4), .b = S2(3, 5), .attr = {.axis = 1}},
    {"slice channels", case_slice, .a = S4(2, 7, 3, 4), .b = S4(2, 3, 3, 4), .attr = {.axis = 1, .start = 2}},
    {"slice images", case_slice, .a = S4(3, 2, 3, 4), .b = S4(1, 2, 3, 4), .attr = {.axis = 0, .start = 1}},
    {"slice columns", case_slice, .a = S4(2, 2, 3, 5), .b = S4(2, 2, 3, 2), .attr = {.axis = 3, .start = 3}},
    {"slice tokens", case_slice, .a = S3(2, 5, 3), .b = S3(2, 1, 3), .attr = {.axis = 1, .start = 4}},
    {"slice last", case_slice, .a = S3(2, 5, 9), .b = S3(2, 5, 4), .attr = {.axis = 2, .start = 3}},
    {"embed", case_embed, .a = S2(2, 5), .b = S2(6, 7)},
    {"upsample", case_upsample, .a = S4(2, 3, 3, 4)},
    {"upsample large", case_upsample, .a = S4(1, 32, 9, 8), .slow = true},
    /* reductions */
    {"sum to channels", case_sum_to, .a = S4(2, 5, 3, 4), .b = S4(1, 5, 1, 1)},
    {"sum to images", case_sum_to, .a = S4(2, 5, 3, 4), .b = S4(2, 1, 1, 1)},
    {"sum to image and channel", case_sum_to, .a = S4(2, 5, 3, 4), .b = S4(2, 5, 1, 1)},
    {"sum to row", case_sum_to, .a = S2(37, 19), .b = S2(1, 19)},
    {"sum to one image", case_sum_to, .a = S3(3, 4, 5), .b = S3(1, 4, 5)},
    {"sum to column", case_sum_to, .a = S3(2, 4, 5), .b = S3(2, 4, 1)},
    {"sum to scalar", case_sum_to, .a = S2(5, 19), .b = S2(1, 1)},
    {"broadcast images", case_broadcast_to, .a = S4(1, 3, 2, 2), .b = S4(3, 3, 2, 2)},
    {"broadcast channels", case_broadcast_to, .a = S4(2, 3, 1, 1), .b = S4(2, 3, 4, 5)},
    {"broadcast rows", case_broadcast_to, .a = S2(1, 7), .b = S2(5, 7)},
    {"pixel unshuffle", case_unshuffle, .a = S4(2, 3, 6, 4), .attr = {.pool = 2}},
    {"pixel unshuffle 3", case_unshuffle, .a = S4(1, 2, 6, 9), .attr = {.pool = 3}},
    {"pixel shuffle", case_shuffle, .a = S4(2, 12, 3, 2), .attr = {.pool = 2}},
    {"average pool", case_avg_pool, .a = S4(2, 5, 6, 4), .attr = {.pool = 2}},
    {"average pool whole map", case_avg_pool, .a = S4(2, 3, 4, 4), .attr = {.pool = 4}},
    {"average pool 3", case_avg_pool, .a = S4(1, 3, 6, 9), .attr = {.pool = 3}},
    {"pool std", case_pool_std, .a = S4(2, 5, 6, 4), .attr = {.pool = 2, .eps = 1e-6f}},
    {"pool std floor", case_pool_std, .a = S4(2, 3, 4, 4), .attr = {.pool = 4, .eps = 1e-6f, .floor = true}},
    {"pool std high floor", case_pool_std, .a = S4(2, 3, 4, 4), .attr = {.pool = 2, .eps = 0.3f, .floor = true}},
};
enum { N_OP_CASES = sizeof op_cases / sizeof op_cases[0] };

/* Builds row `row` in a fresh arena; *y is its result, marked as output "y". */
static inline int case_build(const OpCase *row, Arena *arena, CaseGraph *c, Error *err) {
    memset(c, 0, sizeof *c);
    c->row = row;
    c->g = graph_new(arena);
    if (c->g) c->y = row->build(c);
    if (c->y) c->y = output(c->g, c->y, "y");
    return graph_check(c->g, err);
}

/* Writes every input's values into a bound plan. */
static inline void case_write(const CaseGraph *c, Plan *p) {
    for (int i = 0; i < c->n_leaf; i++)
        if (c->leaf[i]->op == OP_INPUT) plan_write(p, c->leaf[i], c->values[i]);
    if (c->ids) plan_write(p, c->ids, c->id_values);
}

#endif
