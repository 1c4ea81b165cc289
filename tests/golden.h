/* Golden cases: tests/golden/<case>/ holds a network's inputs and what diffusers computes from them (tools/golden). A
 * test builds the same network here and compares its outputs by name. */
#ifndef DRPO_TESTS_GOLDEN_H
#define DRPO_TESTS_GOLDEN_H

#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "engine/plan.h"
#include "format/safetensors.h"
#include "model/build.h"

/* How a graph is run: every golden test goes through all of them. */
typedef enum GoldenRun { GOLDEN_REF, GOLDEN_REF_FUSED, GOLDEN_CPU_FUSED, GOLDEN_RUNS } GoldenRun;

typedef struct Golden {
    const char *name;
    char folder[512]; /* of the case */
    Arena *arena;
    Build build;
    SafeFile *io;
    Backend *backend;
    Plan *plan;
    Value input[16];
    int n_inputs;
    Error err;
} Golden;

/* `weights`: folder with the weights, NULL for the case's own. */
static inline void golden_open(Golden *t, const char *name, const char *weights, const char *stem, GoldenRun run) {
    *t = (Golden){.name = name};
    char path[600];
    snprintf(t->folder, sizeof t->folder, "%s/tests/golden/%s", SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/io.safetensors", t->folder);
    assert_ok(safetensors_open(path, &t->io, &t->err), t->err);
    assert_ok(weights_open(weights ? weights : t->folder, stem, &t->build.weights, &t->err), t->err);
    t->backend = run == GOLDEN_CPU_FUSED ? backend_cpu_new(2, &t->err) : backend_ref_new(&t->err);
    assert_non_null(t->backend);
    t->arena = arena_new();
    t->build.g = graph_new(t->arena);
    assert_non_null(t->build.g);
}

static inline void golden_close(Golden *t) {
    plan_free(t->plan);
    backend_free(t->backend);
    weights_free(t->build.weights);
    safetensors_close(t->io);
    arena_free(t->arena);
}

static inline const SafeTensor *golden_tensor(const Golden *t, const char *kind, const char *name) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", kind, name);
    return safetensors_find(t->io, key);
}

/* An input node with the shape of input.<name>; `batch` > 0 keeps that many rows. */
static inline Value golden_input(Golden *t, const char *name, int batch) {
    const SafeTensor *x = golden_tensor(t, "input", name);
    if (!x) fail_msg("%s has no input.%s", t->name, name);
    Shape shape = {.rank = x->rank};
    memcpy(shape.dim, x->dim, sizeof shape.dim);
    if (batch) shape.dim[0] = batch;
    return t->input[t->n_inputs++] = input(t->build.g, name, x->dtype, shape);
}

/* Plans, and writes the inputs by name; other inputs are the caller's. */
static inline void golden_prepare(Golden *t, GoldenRun run) {
    assert_ok(graph_check(t->build.g, &t->err), t->err);
    if (run != GOLDEN_REF) assert_ok(fuse_graph(t->build.g, &t->err), t->err);
    assert_ok(plan_new(t->build.g, t->backend, &t->plan, &t->err), t->err);
    assert_ok(plan_bind(t->plan, NULL, &t->err), t->err);
    for (int i = 0; i < t->n_inputs; i++)
        plan_write(t->plan, t->input[i], golden_tensor(t, "input", t->input[i]->name)->data);
}

static inline void golden_run(Golden *t, GoldenRun run) {
    golden_prepare(t, run);
    assert_ok(plan_run(t->plan, &t->err), t->err);
}

/* |x - y| / |y| over the first rows that both have; 1e30 where x is not finite. */
static inline double relative_error(const float *x, const float *y, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return 1e30;
        difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        size += (double)y[i] * y[i];
    }
    return sqrt(difference / (size > 0 ? size : 1));
}

static inline void golden_compare(Golden *t, Value x, const char *name, double tolerance) {
    const SafeTensor *wanted = golden_tensor(t, "output", name);
    if (!wanted) fail_msg("%s has no output.%s", t->name, name);
    if (!x) fail_msg("%s: %s is missing in the graph", t->name, name);
    size_t n = (size_t)shape_count(x->shape);
    if (n > wanted->bytes / sizeof(float) || x->shape.rank != wanted->rank)
        fail_msg("%s: %s has another shape", t->name, name);
    for (int i = 1; i < x->shape.rank; i++) assert_int_equal(x->shape.dim[i], wanted->dim[i]);
    float *got = malloc(n * sizeof *got);
    assert_non_null(got);
    plan_read(t->plan, x, got);
    double error = relative_error(got, wanted->data, n);
    free(got);
    if (!(error <= tolerance))
        fail_msg("%s on %s: %s differs by %.3g (relative), more than %.3g", t->name, t->backend->name, name, error,
                 tolerance);
}

#endif
