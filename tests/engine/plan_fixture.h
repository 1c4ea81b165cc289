/* What tests of planned graphs share: an arena, the reference backend and scratch for each test; plan, run and read. */
#ifndef DRPO_TESTS_PLAN_FIXTURE_H
#define DRPO_TESTS_PLAN_FIXTURE_H

#include "engine/nets.h"
#include "engine/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SCRATCH = 1 << 16 };

typedef struct Fixture {
    Arena *arena;
    Backend *b;
    float *scratch;
} Fixture;

static inline int setup(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    f->arena = arena_new();
    f->b = backend_ref_new(NULL);
    f->scratch = malloc(SCRATCH * sizeof(float));
    *state = f;
    return f->arena && f->b && f->scratch ? 0 : -1;
}

static inline int teardown(void **state) {
    Fixture *f = *state;
    backend_free(f->b);
    arena_free(f->arena);
    free(f->scratch);
    free(f);
    return 0;
}

static inline Plan *plan(Fixture *f, Graph *g) {
    Error err = {0};
    Plan *p = NULL;
    if (plan_new(g, f->b, &p, &err) < 0 || plan_bind(p, NULL, &err) < 0) fail_msg("%s", err.text);
    net_write(g, p, f->scratch);
    return p;
}

static inline void run(Plan *p) {
    Error err = {0};
    if (plan_run(p, &err) < 0) fail_msg("%s", err.text);
}

/* Plans, runs and reads one node; returns the number of kernels. */
static inline int evaluate(Fixture *f, Graph *g, Value y, float *out) {
    Plan *p = plan(f, g);
    run(p);
    plan_read(p, y, out);
    int kernels = plan_kernels(p);
    plan_free(p);
    return kernels;
}

static inline Value build_resnet(Graph *g) { return net_resnet(g, input(g, "x", DT_F32, shape4(2, 4, 3, 5)), 1); }
static inline Value build_lora(Graph *g) {
    Value ab[2];
    return net_lora(g, input(g, "x", DT_F32, shape3(2, 3, 4)), 6, 5, ab);
}

#endif
