/* Planning and execution: in-place results, exact peaks, no allocation while running, forward and backward
 * halves, and a property: however memory is shared, results are bit for bit those of a plan that shares nothing. */
#include "engine/graph_private.h"
#include "engine/layout.h"
#include "engine/plan_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

/* ---- memory ---- */
static void chain_runs_in_place(void **state) {
    Graph *g = graph_new(((Fixture *)*state)->arena);
    Value y = input(g, "x", DT_F32, shape2(8, 8));
    for (int i = 0; i < 10; i++) y = affine(g, silu(g, y), 0.5f, 0.25f);
    output(g, y, "y");
    /* the input lives on, everything else shares one more buffer */
    assert_int_equal(plan_measure(g, ((Fixture *)*state)->b), 2 * 64 * 8);
}

static void residual_is_not_overwritten_while_it_is_read(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    Value x = input(g, "x", DT_F32, shape2(3, 4)), w = net_param(g, "w", shape2(4, 4), false, 1);
    Value h = affine(g, x, 2, 0); /* read as x and as residual of one kernel, which must not write over it */
    Value y = output(g, append(g, OP_LINEAR, (Attr){.alpha = 1}, (Value[]){h, w, NULL, h}, 4, (Shape){0}), "y");
    Graph *plain = graph_new(f->arena);
    x = input(plain, "x", DT_F32, shape2(3, 4)), w = net_param(plain, "w", shape2(4, 4), false, 1);
    h = affine(plain, x, 2, 0);
    Value expected = output(plain, add(plain, linear(plain, h, w, NULL), h), "y");
    float a[12], b[12];
    evaluate(f, g, y, a);
    evaluate(f, plain, expected, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(plan_measure(g, f->b), 3 * 128); /* x, h, y of 96 bytes each */
}

/* Sizes in reals: x 16 | a = x x^T 256 -> b = row sums 16 -> c = b b^T 256 -> y 16. c takes a's place and y takes b's.
 */
static void peak_is_exact(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    Value x = input(g, "x", DT_F32, shape2(16, 1));
    Value a = matmul(g, x, x, false, true);
    Value b = sum_to(g, a, shape2(16, 1));
    Value c = matmul(g, b, b, false, true);
    output(g, sum_to(g, c, shape2(16, 1)), "y");
    size_t expected = (16 + 256 + 16) * sizeof(double);
    assert_int_equal(plan_measure(g, f->b), expected);
    Plan *p = plan(f, g);
    assert_int_equal(plan_peak(p), expected); /* the reference backend needs no workspace */
    plan_free(p);
}

static void dead_nodes_are_dropped(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    Value x = input(g, "x", DT_F32, shape2(4, 4)), unused = input(g, "unused", DT_F32, shape2(128, 128));
    silu(g, matmul(g, x, x, false, false));
    silu(g, unused);
    Value y = output(g, affine(g, x, 2, 0), "y");
    float out[16];
    assert_int_equal(plan_measure(g, f->b), 2 * 128);
    Plan *p = plan(f, g); /* writing the unused input is harmless */
    assert_int_equal(plan_kernels(p), 1);
    run(p);
    plan_read(p, y, out);
    plan_free(p);
}

static int allocations;
static void *(*alloc_for_real)(Backend *b, size_t bytes);
static void *counting_alloc(Backend *b, size_t bytes) {
    allocations++;
    return alloc_for_real(b, bytes);
}

static void nothing_is_allocated_while_running(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    Value ab[2], grads[2], x = input(g, "x", DT_F32, shape3(2, 3, 4));
    Value y = output(g, net_lora(g, x, 6, 5, ab), "y"), seed = input(g, "seed", DT_F32, shape3(2, 3, 6));
    assert_int_equal(graph_backward(g, &y, &seed, 1, ab, 2, grads, NULL), 0);
    alloc_for_real = f->b->alloc;
    f->b->alloc = counting_alloc;
    Plan *p = plan(f, g);
    assert_int_equal(allocations, 1);
    size_t arena = arena_bytes(f->arena);
    for (int i = 0; i < 5; i++) run(p);
    assert_int_equal(allocations, 1);
    assert_int_equal(arena_bytes(f->arena), arena);
    plan_free(p);
}

static void plans_share_one_block(void **state) {
    Fixture *f = *state;
    Error err = {0};
    float alone[2][512], shared[2][512];
    Plan *p[2];
    Value y[2];
    Graph *g[2];
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        g[i] = graph_new(f->arena);
        y[i] = output(g[i], i ? build_lora(g[i]) : build_resnet(g[i]), "y");
        evaluate(f, g[i], y[i], alone[i]);
        assert_int_equal(plan_new(g[i], f->b, &p[i], &err), 0);
        assert_int_equal(plan_run(p[i], &err), DRPO_E_INTERNAL); /* not bound yet */
        if (plan_peak(p[i]) > most) most = plan_peak(p[i]);
    }
    void *block = f->b->alloc(f->b, most);
    for (int i = 0; i < 2; i++) assert_int_equal(plan_bind(p[i], block, &err), 0);
    for (int i = 0; i < 2; i++) {
        net_write(g[i], p[i], f->scratch);
        error_clear(&err);
        assert_int_equal(plan_run(p[i], &err), 0);
        plan_read(p[i], y[i], shared[i]);
        assert_memory_equal(shared[i], alone[i], (size_t)shape_count(y[i]->shape) * sizeof(float));
        plan_free(p[i]);
    }
    f->b->free(f->b, block, most);
}

/* ---- running ---- */
static void halves_equal_the_whole(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    float whole[32], halves[32];
    Value x = input(g, "x", DT_F32, shape2(4, 8)), grad;
    Value y = output(g, silu(g, mul(g, x, x)), "y"), seed = input(g, "seed", DT_F32, shape2(4, 8));
    assert_int_equal(graph_backward(g, &y, &seed, 1, &x, 1, &grad, NULL), 0);
    evaluate(f, g, grad, whole);
    Plan *p = plan(f, g);
    for (int i = 0; i < 32; i++) f->scratch[i] = NAN;
    plan_write(p, seed, f->scratch);
    assert_int_equal(plan_run_forward(p, NULL), 0);
    for (int i = 0; i < 32; i++) f->scratch[i] = net_value(seed, (size_t)i);
    plan_write(p, seed, f->scratch); /* seeds are known only after the forward half */
    assert_int_equal(plan_run_backward(p, NULL), 0);
    plan_read(p, grad, halves);
    assert_memory_equal(whole, halves, sizeof whole);
    plan_free(p);
}

static void layout_on_the_host_is_nchw(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    Value x = input(g, "x", DT_F32, shape4(1, 2, 2, 3));
    Value image = output(g, affine(g, x, 1, 0), "image"),
          tokens = output(g, affine(g, to_tokens(g, x), 1, 0), "tokens");
    float got[12];
    Plan *p = plan(f, g);
    for (int i = 0; i < 12; i++) f->scratch[i] = (float)i;
    plan_write(p, x, f->scratch);
    run(p);
    plan_read(p, image, got);
    for (int i = 0; i < 12; i++) assert_true(got[i] == (float)i);
    plan_read(p, tokens, got); /* [position][channel] */
    for (int i = 0; i < 12; i++) assert_true(got[i] == (float)(i % 2 * 6 + i / 2));
    plan_free(p);
}

static void trainable_weights_are_refreshed(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    float value = 2, got;
    Param weight = {.name = "w", .dtype = DT_F32, .shape = shape2(1, 1), .data = &value, .trainable = true};
    Value y = output(g, linear(g, input(g, "x", DT_F32, shape2(1, 1)), param(g, &weight), NULL), "y");
    Plan *p = plan(f, g);
    plan_write(p, graph_find(g, "x"), &(float){3});
    run(p);
    plan_read(p, y, &got);
    assert_true(got == 6);
    value = 5;
    f->b->refresh(f->b, &weight);
    run(p);
    plan_read(p, y, &got);
    assert_true(got == 15);
    plan_free(p);
}

static void count_tap(void *user, const Node *n, const void *device) {
    int *count = user;
    assert_non_null(device);
    if (n->name && strcmp(n->name, "middle") == 0) *count += 1;
}

static void taps_and_times_see_every_kernel(void **state) {
    Fixture *f = *state;
    Graph *g = graph_new(f->arena);
    int middle = 0;
    double seconds[OP_COUNT];
    long runs[OP_COUNT];
    Value h = set_name(g, silu(g, input(g, "x", DT_F32, shape2(4, 8))), "middle");
    output(g, silu(g, affine(g, h, 2, 0)), "y");
    Plan *p = plan(f, g);
    plan_tap(p, count_tap, &middle);
    plan_profile(p, true);
    run(p);
    run(p);
    plan_times(p, seconds, runs);
    assert_int_equal(middle, 2);
    assert_int_equal(runs[OP_ACT], 4);
    assert_int_equal(runs[OP_AFFINE], 2);
    assert_true(seconds[OP_ACT] >= 0);
    plan_free(p);
}

static int fail_to_run(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)k, (void)out, (void)in, (void)workspace;
    return DRPO_E_NUMERIC;
}
static int prepare_failing(Backend *b, const Node *n, Kernel *out, Error *err) {
    (void)b, (void)n, (void)err;
    *out = (Kernel){.run = fail_to_run};
    return 0;
}
static bool no_matmul(const Backend *b, const Node *n) { return (void)b, n->op != OP_MATMUL; }

static void failing_kernels_are_named(void **state) {
    Fixture *f = *state;
    Error err = {0};
    Plan *p;
    Graph *g = graph_new(f->arena);
    Value x = input(g, "x", DT_F32, shape2(4, 4));
    output(g, silu(g, x), "y");
    f->b->prepare = prepare_failing;
    assert_int_equal(plan_new(g, f->b, &p, &err), 0);
    assert_int_equal(plan_bind(p, NULL, &err), 0);
    assert_int_equal(plan_run(p, &err), DRPO_E_NUMERIC);
    assert_non_null(strstr(err.text, "ACT [4, 4] y"));
    plan_free(p);
    f->b->supports = no_matmul;
    error_clear(&err);
    output(g, matmul(g, x, x, false, false), "z");
    assert_int_equal(plan_new(g, f->b, &p, &err), DRPO_E_INTERNAL);
    assert_non_null(strstr(err.text, "MATMUL"));
    assert_null(p);
    error_clear(&err);
    assert_int_equal(plan_new(graph_new(f->arena), f->b, &p, &err), DRPO_E_INTERNAL); /* nothing to compute */
}

/* ---- property: sharing memory changes nothing ---- */
static Value random_node(Graph *g, Value *pool, int n, int trial, int k) {
    uint32_t r = (uint32_t)(fabsf(case_value(trial, (size_t)k)) * 8192);
    Value a = pool[r % (uint32_t)n], b = pool[r / 7 % (uint32_t)n];
    switch (r % 9) {
    case 0: return add(g, a, b);
    case 1: return mul(g, a, b);
    case 2: return affine(g, a, 0.5f, 0.125f);
    case 3: return act(g, a, ACT_GELU_TANH);
    case 4: return slice(g, concat(g, a, b, 1), 1, 1, a->shape.dim[1]);
    case 5: return to_image(g, act(g, to_tokens(g, a), ACT_SILU), a->shape.dim[2], a->shape.dim[3]);
    case 6: return add(g, a, sum_to(g, b, shape4(1, 3, 1, 1)));
    case 7: return add(g, broadcast_to(g, sum_to(g, a, shape4(2, 3, 1, 1)), a->shape), b);
    default: return add(g, affine(g, a, 2, 0), a);
    }
}

static void sharing_memory_changes_nothing(void **state) {
    Fixture *f = *state;
    enum { NODES = 30, COUNT = 2 * 3 * 2 * 2 };
    for (int trial = 0; trial < 60; trial++) {
        float shared[COUNT], kept[COUNT];
        size_t peak[2];
        for (int keep_all = 0; keep_all < 2; keep_all++) {
            Graph *g = graph_new(f->arena);
            Value pool[NODES + 1] = {input(g, "x", DT_F32, shape4(2, 3, 2, 2))};
            for (int k = 0; k < NODES; k++) pool[k + 1] = random_node(g, pool, k + 1, 1000 + trial, k);
            Value y = output(g, pool[NODES], "y");
            for (int id = 1; keep_all && id < graph_size(g); id++) graph_node(g, id)->output = true;
            evaluate(f, g, y, keep_all ? kept : shared);
            peak[keep_all] = plan_measure(g, f->b);
        }
        assert_memory_equal(shared, kept, sizeof shared);
        assert_true(peak[0] <= peak[1]);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(chain_runs_in_place),
        TEST(residual_is_not_overwritten_while_it_is_read),
        TEST(peak_is_exact),
        TEST(dead_nodes_are_dropped),
        TEST(nothing_is_allocated_while_running),
        TEST(plans_share_one_block),
        TEST(halves_equal_the_whole),
        TEST(layout_on_the_host_is_nchw),
        TEST(trainable_weights_are_refreshed),
        TEST(taps_and_times_see_every_kernel),
        TEST(failing_kernels_are_named),
        TEST(sharing_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
