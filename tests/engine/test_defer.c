/* Deferring: a backend that was told to looks at what plans need before it takes it; then everything is as without. */
#include "base/clock.h"
#include "engine/nets.h"
#include "engine/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SIDE = 24, WIDE = 32, COUNT = (SIDE * SIDE + 2) * 64 };

/* A convolution (transformed weight), a product with few rows (packed weight) and one with many rows, whose weight is
 * in half precision (copied). */
static Graph *build(Arena *a, Value *y, uint16_t *halves) {
    Graph *g = graph_new(a);
    Value x = input(g, "x", DT_F32, shape4(1, WIDE, SIDE, SIDE)), t = input(g, "t", DT_F32, shape2(2, 48));
    Value w = net_param(g, "conv", shape4(WIDE, WIDE, 3, 3), false, 1);
    Value few = net_param(g, "few", shape2(64, 48), false, 2);
    Param *half = arena_alloc(a, sizeof *half);
    for (int i = 0; i < 64 * WIDE; i++) halves[i] = (uint16_t)(0x3000 + i % 977);
    *half = (Param){.name = "half", .dtype = DT_F16, .shape = shape2(64, WIDE), .data = halves};
    Value many = linear(g, to_tokens(g, conv2d(g, x, w, NULL, 1, pad_same(1))), param(g, half), NULL);
    *y = output(g, concat(g, many, reshape(g, linear(g, t, few, NULL), shape3(1, 2, 64)), 1), "y");
    return g;
}

typedef struct Run {
    Arena *arena;
    Backend *backend;
    Graph *graph;
    Plan *plan;
    Value y;
    uint16_t halves[64 * WIDE];
    float out[COUNT];
} Run;

static Run *open_run(bool defer) {
    Error err = {0};
    Run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->arena = arena_new();
    r->backend = backend_cpu_new(1, &err);
    assert_non_null(r->backend);
    if (defer) r->backend->defer(r->backend);
    r->graph = build(r->arena, &r->y, r->halves);
    if (plan_new(r->graph, r->backend, &r->plan, &err) < 0 || plan_bind(r->plan, NULL, &err) < 0)
        fail_msg("%s", err.text);
    return r;
}

static void finish_run(Run *r) {
    Error err = {0};
    float *scratch = malloc(sizeof(float) * WIDE * SIDE * SIDE);
    net_write(r->graph, r->plan, scratch);
    assert_int_equal(plan_run(r->plan, &err), 0);
    plan_read(r->plan, r->y, r->out);
    free(scratch);
}

static void close_run(Run *r) {
    plan_free(r->plan);
    backend_free(r->backend);
    arena_free(r->arena);
    free(r);
}

static void results_are_those_of_a_backend_that_does_not_wait(void **state) {
    (void)state;
    Error err = {0};
    Run *now = open_run(false), *later = open_run(true);
    assert_int_equal(backend_pending(now->backend), 0);
    size_t packed = later->backend->packed_bytes(later->backend);
    assert_int_equal(packed, now->backend->packed_bytes(now->backend));
    assert_true(backend_pending(later->backend) >= packed + plan_peak(later->plan));
    assert_int_equal(backend_commit(later->backend, &err), 0);
    assert_int_equal(backend_pending(later->backend), 0);
    assert_int_equal(backend_commit(later->backend, &err), 0); /* again: nothing to do */
    finish_run(now);
    finish_run(later);
    assert_memory_equal(now->out, later->out, sizeof now->out);
    close_run(now);
    close_run(later);
}

/* What is promised is not in memory yet; what nobody commits is given back. */
static void nothing_is_taken_before(void **state) {
    (void)state;
    enum { LARGE = 256 << 20 };
    Error err = {0};
    Backend *b = backend_cpu_new(1, &err);
    b->defer(b);
    long long before = memory_now_bytes();
    void *block = b->alloc(b, LARGE);
    assert_non_null(block);
    assert_true(memory_now_bytes() - before < LARGE / 8);
    assert_int_equal(backend_pending(b), LARGE);
    assert_int_equal(backend_commit(b, &err), 0);
    assert_true(memory_now_bytes() - before > LARGE / 8 * 7);
    b->free(b, block, LARGE);
    backend_free(b);

    b = backend_cpu_new(1, &err);
    b->defer(b);
    block = b->alloc(b, LARGE);
    b->free(b, block, LARGE);
    assert_int_equal(backend_pending(b), 0);
    assert_int_equal(backend_commit(b, &err), 0);
    backend_free(b);
}

/* Who has a copy of its own does not read the weight any more. */
static void it_is_known_which_weights_are_copied(void **state) {
    (void)state;
    Run *r = open_run(true);
    for (int id = 0; id < graph_size(r->graph); id++) {
        const Node *n = graph_node(r->graph, id);
        if (n->op != OP_PARAM) continue;
        assert_true(n->param->planned);
        assert_true(r->backend->copies(r->backend, n->param));
    }
    Param stranger = {.name = "stranger", .dtype = DT_F32, .shape = shape1(1)};
    assert_false(r->backend->copies(r->backend, &stranger));
    close_run(r);
}

/* A run is planned anew: the weights of the first plan are gone when memory is filled, and nobody asks for them. */
static void a_plan_that_goes_takes_its_weights_along(void **state) {
    (void)state;
    Error err = {0};
    Run *r = open_run(true), *gone = calloc(1, sizeof *gone);
    size_t packed = r->backend->packed_bytes(r->backend), pending = backend_pending(r->backend);
    gone->arena = arena_new();
    gone->graph = build(gone->arena, &gone->y, gone->halves);
    assert_int_equal(plan_new(gone->graph, r->backend, &gone->plan, &err), 0);
    assert_int_equal(r->backend->packed_bytes(r->backend), 2 * packed);
    arena_free(gone->arena); /* first the weights, as when a step is closed */
    plan_free(gone->plan);
    free(gone);
    assert_int_equal(r->backend->packed_bytes(r->backend), packed);
    assert_int_equal(backend_pending(r->backend), pending);
    assert_int_equal(backend_commit(r->backend, &err), 0);
    finish_run(r);
    close_run(r);
}

/* Another plan of the same weights keeps what the first had asked for. */
static void plans_share_a_weight_until_the_last_goes(void **state) {
    (void)state;
    Error err = {0};
    for (int ref = 0; ref < 2; ref++) {
        Run *r = calloc(1, sizeof *r);
        Plan *second;
        r->arena = arena_new();
        r->backend = ref ? backend_ref_new(&err) : backend_cpu_new(1, &err);
        r->graph = build(r->arena, &r->y, r->halves);
        assert_int_equal(plan_new(r->graph, r->backend, &r->plan, &err), 0);
        assert_int_equal(plan_new(r->graph, r->backend, &second, &err), 0);
        assert_int_equal(plan_bind(second, NULL, &err), 0);
        const size_t packed = r->backend->packed_bytes(r->backend);
        assert_true(packed > 0);
        plan_free(r->plan);
        r->plan = second;
        assert_int_equal(r->backend->packed_bytes(r->backend), packed);
        finish_run(r);
        plan_free(second);
        r->plan = NULL;
        assert_int_equal(r->backend->packed_bytes(r->backend), 0);
        close_run(r);
    }
}

/* Another backend waits too, and takes nothing of the first. */
static void another_backend_waits_as_well(void **state) {
    (void)state;
    Error err = {0};
    Run *r = open_run(true);
    Backend *b = r->backend->another(r->backend, &err);
    assert_non_null(b);
    assert_int_equal(b->packed_bytes(b), 0);
    void *block = b->alloc(b, 1 << 20);
    assert_int_equal(backend_pending(b), 1 << 20);
    b->free(b, block, 1 << 20);
    backend_free(b);
    close_run(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_a_backend_that_does_not_wait),
        cmocka_unit_test(nothing_is_taken_before),
        cmocka_unit_test(it_is_known_which_weights_are_copied),
        cmocka_unit_test(a_plan_that_goes_takes_its_weights_along),
        cmocka_unit_test(plans_share_a_weight_until_the_last_goes),
        cmocka_unit_test(another_backend_waits_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
