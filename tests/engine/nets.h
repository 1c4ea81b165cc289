/* Small networks and helpers that the tests of the engine core share. */
#ifndef DRPO_TESTS_NETS_H
#define DRPO_TESTS_NETS_H

#include "engine/op_cases.h"

/* A weight with made-up values in the graph's arena. */
static inline Value net_param(Graph *g, const char *name, Shape s, bool trainable, int seed) {
    Param *p = arena_alloc(graph_arena(g), sizeof *p);
    float *values = arena_alloc(graph_arena(g), (size_t)shape_count(s) * sizeof *values);
    for (int64_t i = 0; i < shape_count(s); i++) values[i] = 0.4f * case_value(seed, (size_t)i);
    *p = (Param){.name = name, .dtype = DT_F32, .shape = s, .data = values, .trainable = trainable};
    return param(g, p);
}

/* y = x + conv(silu(group_norm(x))), one segment; weights frozen */
static inline Value net_resnet(Graph *g, Value x, int segment) {
    int64_t c = x->shape.dim[1];
    graph_segment(g, segment);
    Value w = net_param(g, "norm.weight", shape1(c), false, 10 * segment);
    Value b = net_param(g, "norm.bias", shape1(c), false, 10 * segment + 1);
    Value h = silu(g, group_norm(g, x, w, b, 2, 1e-5f));
    Value k = net_param(g, "conv.weight", shape4(c, c, 3, 3), false, 10 * segment + 2);
    h = add(g, x, conv2d(g, h, k, NULL, 1, pad_same(1)));
    graph_segment(g, 0);
    return h;
}

/* y = W x + b + s B A x with frozen W, b and trainable A, B, whose nodes go to ab[0], ab[1] */
static inline Value net_lora(Graph *g, Value x, int64_t out, int seed, Value ab[2]) {
    int64_t in = x->shape.dim[x->shape.rank - 1];
    Value w = net_param(g, "to_q.weight", shape2(out, in), false, seed),
          b = net_param(g, "to_q.bias", shape1(out), false, seed + 1);
    ab[0] = net_param(g, "to_q.lora_A", shape2(2, in), true, seed + 2);
    ab[1] = net_param(g, "to_q.lora_B", shape2(out, 2), true, seed + 3);
    Value y = linear(g, x, w, b);
    return add(g, y, affine(g, linear(g, linear(g, x, ab[0], NULL), ab[1], NULL), 0.5f, 0));
}

static inline int count_ops(const Graph *g, Op op) {
    int n = 0;
    for (int id = 0; id < graph_size(g); id++) n += graph_node(g, id)->op == op;
    return n;
}

/* Made-up values of an input: they depend on its name alone, so that differently built graphs get the same. */
static inline float net_value(const Node *n, size_t i) {
    int seed = 500;
    for (const char *c = n->name; *c; c++) seed = seed * 31 % 100003 + *c;
    return case_value(seed, i);
}

/* Writes them into every input of the graph. */
static inline void net_write(const Graph *g, Plan *p, float *scratch) {
    for (int id = 0; id < graph_size(g); id++) {
        Value n = graph_node(g, id);
        if (n->op != OP_INPUT) continue;
        for (int64_t i = 0; i < shape_count(n->shape); i++) scratch[i] = net_value(n, (size_t)i);
        plan_write(p, n, scratch);
    }
}

#endif
