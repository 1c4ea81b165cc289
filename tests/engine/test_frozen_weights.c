/* Frozen weights of every float type on the cpu backend, and how plans share them. */
#include "engine/cpu_net.h"

static void add_conv(Net *net, int64_t in, int64_t out, int64_t size, int stride, Pad pad, DType type, bool residual) {
    Param *w = frozen(net, shape4(out, in, size, size), type), *b = frozen(net, shape1(out), type);
    Value x = leaf(net, shape4(2, in, 14, 13), 1, 0);
    net->y = conv2d(net->g, x, param(net->g, w), param(net->g, b), stride, pad);
    if (residual) net->y = add(net->g, net->y, leaf(net, net->y->shape, 1, 0));
}

static void conv_3x3_f16(Net *net) { add_conv(net, 24, 40, 3, 1, pad_same(1), DT_F16, true); }
static void conv_3x3_bf16(Net *net) { add_conv(net, 16, 32, 3, 1, pad_same(1), DT_BF16, false); }
static void conv_1x1_f16(Net *net) { add_conv(net, 24, 40, 1, 1, pad_same(0), DT_F16, true); }
static void conv_stride_2(Net *net) { add_conv(net, 24, 16, 3, 2, pad_same(1), DT_F16, false); }
static void conv_one_sided(Net *net) { add_conv(net, 16, 16, 3, 2, (Pad){0, 0, 1, 1}, DT_F32, false); }
static void conv_1x1_stride_2(Net *net) { add_conv(net, 16, 24, 1, 2, pad_same(0), DT_F32, false); }
static void conv_first(Net *net) { add_conv(net, 4, 48, 3, 1, pad_same(1), DT_F16, false); }

static void linear_of(Net *net, int64_t rows, DType type) {
    Value x = leaf(net, shape2(rows, 48), 1, 0);
    Value w = param(net->g, frozen(net, shape2(80, 48), type)), b = param(net->g, frozen(net, shape1(80), type));
    net->y = add(net->g, linear(net->g, x, w, b), leaf(net, shape2(rows, 80), 1, 0));
}
static void linear_few_rows(Net *net) { linear_of(net, 3, DT_F16); }
static void linear_many_rows(Net *net) { linear_of(net, 300, DT_F16); }
static void linear_f32(Net *net) { linear_of(net, 300, DT_F32); }

static void frozen_weights_of_any_type(void **state) {
    (void)state;
    static const Build build[] = {conv_3x3_f16,      conv_3x3_bf16, conv_1x1_f16,    conv_stride_2,    conv_one_sided,
                                  conv_1x1_stride_2, conv_first,    linear_few_rows, linear_many_rows, linear_f32};
    for (size_t i = 0; i < sizeof build / sizeof build[0]; i++) {
        Result expected = run_reference(build[i]), got = run_on(build[i], cpu(2));
        char what[32];
        snprintf(what, sizeof what, "frozen weight %d", (int)i);
        assert_close(what, &got, &expected, 1e-5);
        free_result(&expected);
        free_result(&got);
    }
}

/* Two plans of one graph hold one copy; it goes with the second. Float32 matrices are read where they are. */
static void packed_weights_are_shared(void **state) {
    (void)state;
    static const Build build[] = {conv_3x3_f16, linear_few_rows, linear_many_rows};
    for (int i = 0; i < 3; i++) {
        Backend *b = cpu(2);
        Net net;
        open_net(&net, build[i]);
        Plan *first = open_plan(&net, b);
        size_t bytes = b->packed_bytes(b);
        Plan *second = open_plan(&net, b);
        assert_true(bytes > 0);
        assert_int_equal(b->packed_bytes(b), bytes);
        plan_free(first);
        Result again = run_plan(&net, second), expected = run_reference(build[i]);
        assert_close("after the first plan went", &again, &expected, 1e-5);
        assert_int_equal(b->packed_bytes(b), bytes);
        plan_free(second);
        assert_true(b->packed_bytes(b) < 1024); /* the bias stays */
        free_result(&again);
        free_result(&expected);
        backend_free(b);
        arena_free(net.arena);
    }
    Backend *b = cpu(2);
    Net net;
    open_net(&net, linear_f32);
    Plan *p = open_plan(&net, b);
    assert_int_equal(b->packed_bytes(b), 0);
    plan_free(p);
    backend_free(b);
    arena_free(net.arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_weights_of_any_type),
        cmocka_unit_test(packed_weights_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
