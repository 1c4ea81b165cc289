/* What the op table (test_ops.c) does not see of the cpu backend: every instruction set, sequences longer than a tile,
 * equal bytes for any number of threads, and the accuracy of activations over their whole range. */
#include <math.h>
#include <stdlib.h>

#include "engine/cpu_net.h"

/* ---- nets of the backend's own kernels ---- */
static void long_attention(Net *net) {
    Value q = leaf(net, shape3(2, 191, 72), 2, 0), k = leaf(net, shape3(2, 300, 72), 2, 0);
    net->y = attention(net->g, q, k, leaf(net, shape3(2, 300, 72), 1, 0), 3, false);
}

static void causal_attention(Net *net) {
    Value q = leaf(net, shape3(2, 301, 38), 2, 0), k = leaf(net, shape3(2, 301, 38), 2, 0);
    net->y = attention(net->g, q, k, leaf(net, shape3(2, 301, 38), 1, 0), 2, true);
}

static void shared_text(Net *net) {
    Value q = leaf(net, shape3(5, 150, 48), 3, 0), k = leaf(net, shape3(1, 77, 48), 3, 0);
    net->y = attention(net->g, q, k, leaf(net, shape3(1, 77, 48), 1, 0), 2, false);
}

static void one_wide_head(Net *net) {
    Value q = leaf(net, shape3(1, 144, 256), 1, 0), k = leaf(net, shape3(1, 144, 256), 1, 0);
    net->y = attention(net->g, q, k, leaf(net, shape3(1, 144, 256), 1, 0), 1, false);
}

/* Scores far apart: the running maximum jumps from tile to tile. */
static void steep_attention(Net *net) {
    Value q = leaf(net, shape3(1, 70, 32), 6, 0), k = leaf(net, shape3(1, 400, 32), 6, 0);
    net->y = attention(net->g, q, k, leaf(net, shape3(1, 400, 32), 1, 0), 1, false);
}

static void norms(Net *net) {
    Value x = leaf(net, shape4(2, 48, 30, 23), 1, 0), w = leaf(net, shape1(48), 0.5f, 1),
          b = leaf(net, shape1(48), 1, 0);
    Value y = group_norm(net->g, x, w, b, 8, 1e-5f);
    y->attr.act = ACT_SILU;
    net->y =
        layer_norm(net->g, to_tokens(net->g, y), leaf(net, shape1(48), 0.5f, 1), leaf(net, shape1(48), 1, 0), 1e-5f);
}

static void large_mean(Net *net) {
    Value x = leaf(net, shape4(2, 20, 40, 40), 1, 100), w = leaf(net, shape1(20), 0.5f, 1),
          b = leaf(net, shape1(20), 1, 0);
    net->y = group_norm(net->g, x, w, b, 5, 1e-5f);
}

static void sums(Net *net) {
    Value x = leaf(net, shape4(3, 40, 64, 37), 1, 0.5f), y = act(net->g, x, ACT_GELU);
    Value by_channel = sum_to(net->g, y, shape4(1, 40, 1, 1)), by_image = sum_to(net->g, y, shape4(3, 1, 1, 1));
    net->y = mul(net->g, by_channel, sum_to(net->g, by_image, shape4(1, 1, 1, 1)));
}

/* 3x3 convolutions that go through Winograd's method: tiles cut by the border, channels that fill no panel, a weight
 * that is transformed once, one that changes, and those that are too large to keep: with many tiles in slices, with few
 * in panels and chunks of input channels. */
static void winograd(Net *net, Shape x, int64_t out, Param *w) {
    Value y = conv2d(net->g, leaf(net, x, 1, 0.1f), param(net->g, w), param(net->g, frozen(net, shape1(out), DT_F32)),
                     1, pad_same(1));
    net->y = add(net->g, y, leaf(net, y->shape, 1, 0));
}

static void winograd_kept(Net *net) {
    winograd(net, shape4(2, 53, 14, 11), 42, frozen(net, shape4(42, 53, 3, 3), DT_F16));
}

static void winograd_trainable(Net *net) {
    Param *w = frozen(net, shape4(33, 48, 3, 3), DT_F32);
    w->trainable = true;
    winograd(net, shape4(3, 48, 17, 20), 33, w);
}

static void winograd_slices(Net *net) {
    winograd(net, shape4(132, 256, 2, 2), 520, frozen(net, shape4(520, 256, 3, 3), DT_F16));
}

static void winograd_few(Net *net) {
    winograd(net, shape4(3, 153, 9, 10), 203, frozen(net, shape4(203, 153, 3, 3), DT_F16));
}

static void winograd_many(Net *net) {
    winograd(net, shape4(21, 153, 9, 10), 203, frozen(net, shape4(203, 153, 3, 3), DT_F16));
}

/* A doubled image, whose last tiles are cut. */
static void winograd_doubled(Net *net) {
    Value w = param(net->g, frozen(net, shape4(705, 42, 3, 3), DT_F16));
    net->y = conv2d(net->g, upsample2x(net->g, leaf(net, shape4(2, 42, 5, 3), 1, 0.1f)), w, NULL, 1, pad_same(1));
}

static const struct {
    const char *name;
    Build build;
} own_kernels[] = {{"long attention", long_attention},
                   {"causal attention", causal_attention},
                   {"shared text", shared_text},
                   {"one wide head", one_wide_head},
                   {"steep attention", steep_attention},
                   {"norms", norms},
                   {"large mean", large_mean},
                   {"sums", sums},
                   {"winograd, kept", winograd_kept},
                   {"winograd, trainable", winograd_trainable},
                   {"winograd, slices", winograd_slices},
                   {"winograd, few tiles", winograd_few},
                   {"winograd, doubled", winograd_doubled}};
enum { N_OWN = sizeof own_kernels / sizeof own_kernels[0] };

static void every_instruction_set_agrees_with_the_reference(void **state) {
    (void)state;
    static const char *const isa[] = {"generic", "avx2", "avx512"};
    Error err = {0};
    for (int i = 0; i < N_OWN; i++) {
        Result expected = run_reference(own_kernels[i].build);
        for (int k = 0; k < 3; k++) {
            setenv("DRPO_ISA", isa[k], 1);
            Backend *b = backend_cpu_new(2, &err);
            unsetenv("DRPO_ISA");
            if (!b) continue; /* not on this processor */
            Result got = run_on(own_kernels[i].build, b);
            char what[64];
            snprintf(what, sizeof what, "%s, %s", own_kernels[i].name, isa[k]);
            assert_close(what, &got, &expected, 1e-5);
            free_result(&got);
        }
        free_result(&expected);
    }
}

static void unknown_instruction_set_is_refused(void **state) {
    (void)state;
    Error err = {0};
    setenv("DRPO_ISA", "mmx", 1);
    assert_null(backend_cpu_new(1, &err));
    unsetenv("DRPO_ISA");
    assert_non_null(strstr(err.text, "DRPO_ISA=mmx"));
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    for (int i = 0; i < N_OWN; i++) {
        Result one = run_on(own_kernels[i].build, cpu(1));
        for (int threads = 2; threads <= 3; threads++) {
            Result more = run_on(own_kernels[i].build, cpu(threads));
            for (int k = 0; k < one.n; k++)
                if (memcmp(one.values[k], more.values[k], one.count[k] * sizeof(float)) != 0)
                    fail_msg("%s: value %d differs with %d threads", own_kernels[i].name, k, threads);
            free_result(&more);
        }
        free_result(&one);
    }
}

/* The first images of a large batch are those of a small one, though weights are transformed in another way. */
static void few_tiles_and_many_give_the_same_bits(void **state) {
    (void)state;
    Result few = run_on(winograd_few, cpu(2)), many = run_on(winograd_many, cpu(2));
    const size_t images = 3 * 203 * 90;
    assert_true(few.count[0] == images && many.count[0] == 7 * images);
    assert_memory_equal(few.values[0], many.values[0], images * sizeof(float));
    free_result(&few);
    free_result(&many);
}

/* ---- activations ---- */
enum { POINTS = 40001 };

static double exact(Act kind, double x) {
    switch (kind) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
}

/* Every value and slope on [-40, 40]; slopes against central differences of the exact function. */
static void activations_are_accurate(void **state) {
    (void)state;
    static const Act kinds[] = {ACT_SILU, ACT_GELU, ACT_QUICK_GELU, ACT_GELU_TANH};
    for (int i = 0; i < 4; i++) {
        Error err = {0};
        Backend *b = cpu(1);
        Arena *arena = arena_new();
        Graph *g = graph_new(arena);
        Value x = input(g, "x", DT_F32, shape1(POINTS)), dy = input(g, "dy", DT_F32, shape1(POINTS)), dx = NULL;
        Value y = output(g, act(g, x, kinds[i]), "y");
        Plan *p = NULL;
        float *in = arena_alloc(arena, POINTS * sizeof *in), *one = arena_alloc(arena, POINTS * sizeof *one);
        float *out = arena_alloc(arena, POINTS * sizeof *out), *slope = arena_alloc(arena, POINTS * sizeof *slope);
        for (int k = 0; k < POINTS; k++) in[k] = (float)(k - POINTS / 2) * 0.002f, one[k] = 1;
        if (graph_backward(g, &y, &dy, 1, &x, 1, &dx, &err) < 0 || plan_new(g, b, &p, &err) < 0 ||
            plan_bind(p, NULL, &err) < 0)
            fail_msg("%s", err.text);
        plan_write(p, x, in);
        plan_write(p, dy, one);
        assert_int_equal(plan_run(p, &err), 0);
        plan_read(p, y, out);
        plan_read(p, dx, slope);
        for (int k = 0; k < POINTS; k++) {
            double at = (double)in[k], step = 1e-5, value = exact(kinds[i], at);
            double difference = (exact(kinds[i], at + step) - exact(kinds[i], at - step)) / (2 * step);
            if (fabs((double)out[k] - value) > 2e-7 * fmax(1, fabs(value))) fail_msg("act %d at %g", kinds[i], at);
            if (fabs((double)slope[k] - difference) > 1e-6) fail_msg("slope of act %d at %g", kinds[i], at);
        }
        plan_free(p);
        backend_free(b);
        arena_free(arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_set_agrees_with_the_reference),
        cmocka_unit_test(unknown_instruction_set_is_refused),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(few_tiles_and_many_give_the_same_bits),
        cmocka_unit_test(activations_are_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
