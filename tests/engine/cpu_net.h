/* A small graph with its gradient, run on a cpu backend and on the reference. */
#ifndef DRPO_TESTS_CPU_NET_H
#define DRPO_TESTS_CPU_NET_H

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "check.h"
#include "engine/autodiff.h"
#include "engine/plan.h"

enum { MOST_VALUES = 8 };

/* A graph under test: leaves with values, one result, gradients of the leaves. */
typedef struct Net {
    Arena *arena;
    Graph *g;
    Value leaf[MOST_VALUES], y, grad[MOST_VALUES];
    float *values[MOST_VALUES];
    int n_leaf;
} Net;

typedef struct Result {
    int n;
    size_t count[MOST_VALUES];
    float *values[MOST_VALUES];
} Result;

typedef void (*Build)(Net *net);

static inline float noise(size_t i) {
    uint64_t h = (i + 1) * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9u;
    return (float)((double)(h >> 40) / (1 << 23) - 1.0);
}

static inline Value leaf(Net *net, Shape s, float scale, float shift) {
    size_t n = (size_t)shape_count(s);
    char *name = arena_printf(net->arena, "leaf%d", net->n_leaf);
    float *values = arena_alloc(net->arena, n * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = shift + scale * noise(i + 7919u * (size_t)net->n_leaf);
    net->values[net->n_leaf] = values;
    return net->leaf[net->n_leaf++] = input(net->g, name, DT_F32, s);
}

/* A frozen weight whose values are the upper halves of float32 numbers: exact in every type that is tried. */
static inline Param *frozen(Net *net, Shape s, DType type) {
    size_t n = (size_t)shape_count(s);
    Param *p = arena_alloc(net->arena, sizeof *p);
    uint16_t *half = arena_alloc(net->arena, 2 * n);
    float *full = arena_alloc(net->arena, n * sizeof *full);
    for (size_t i = 0; i < n; i++) {
        if (type == DT_F16)
            half[i] = (uint16_t)(0x3000u + (i * 2654435761u >> 20 & 0x7ffu) + (i % 3 ? 0x8000u : 0u));
        else
            half[i] = (uint16_t)(0x3e00u + (i * 2654435761u >> 24 & 0xffu) + (i % 3 ? 0x8000u : 0u));
        full[i] = 0.25f * noise(i);
    }
    *p = (Param){.name = "weight", .dtype = type, .shape = s, .data = type == DT_F32 ? (void *)full : (void *)half};
    return p;
}

static inline void open_net(Net *net, Build build) {
    Error err = {0};
    memset(net, 0, sizeof *net);
    net->arena = arena_new();
    net->g = graph_new(net->arena);
    build(net);
    output(net->g, net->y, "y");
    Value seed = input(net->g, "seed", DT_F32, net->y->shape);
    if (graph_backward(net->g, &net->y, &seed, 1, net->leaf, net->n_leaf, net->grad, &err) < 0 ||
        graph_check(net->g, &err) < 0)
        fail_msg("%s", err.text);
}

static inline Plan *open_plan(Net *net, Backend *b) {
    Error err = {0};
    Plan *p = NULL;
    if (plan_new(net->g, b, &p, &err) < 0 || plan_bind(p, NULL, &err) < 0) fail_msg("%s", err.text);
    for (int i = 0; i < net->n_leaf; i++) plan_write(p, net->leaf[i], net->values[i]);
    Value seed = graph_find(net->g, "seed");
    size_t n = (size_t)shape_count(seed->shape);
    float *values = arena_alloc(net->arena, n * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = noise(i + 1000003);
    plan_write(p, seed, values);
    return p;
}

static inline void read_value(const Plan *p, Value v, Result *r) {
    r->count[r->n] = (size_t)shape_count(v->shape);
    r->values[r->n] = malloc(r->count[r->n] * sizeof(float));
    plan_read(p, v, r->values[r->n++]);
}

static inline Result run_plan(const Net *net, Plan *p) {
    Error err = {0};
    Result r = {0};
    if (plan_run(p, &err) < 0) fail_msg("%s", err.text);
    read_value(p, net->y, &r);
    for (int i = 0; i < net->n_leaf; i++)
        if (net->grad[i]) read_value(p, net->grad[i], &r);
    return r;
}

static inline void free_result(Result *r) {
    for (int i = 0; i < r->n; i++) free(r->values[i]);
}

static inline Backend *cpu(int threads) {
    Error err = {0};
    Backend *b = backend_cpu_new(threads, &err);
    if (!b) fail_msg("%s", err.text);
    return b;
}

/* Runs the whole life of a net on a backend that it frees. */
static inline Result run_on(Build build, Backend *b) {
    Net net;
    open_net(&net, build);
    Plan *p = open_plan(&net, b);
    Result r = run_plan(&net, p);
    plan_free(p);
    backend_free(b);
    arena_free(net.arena);
    return r;
}

static inline Result run_reference(Build build) {
    Error err = {0};
    Backend *b = backend_ref_new(&err);
    if (!b) fail_msg("%s", err.text);
    return run_on(build, b);
}

static inline double relative_error(const float *a, const float *b, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference) / (sqrt(size) + 1e-12);
}

static inline void assert_close(const char *what, const Result *got, const Result *expected, double tolerance) {
    assert_int_equal(got->n, expected->n);
    for (int i = 0; i < got->n; i++) {
        double error = relative_error(got->values[i], expected->values[i], got->count[i]);
        if (!(error < tolerance)) fail_msg("%s: value %d is off by %.2e", what, i, error);
    }
}

#endif
