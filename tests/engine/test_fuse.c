/* Fusion: how many kernels each pattern saves, what is left alone, and that results stay the same. */
#include "engine/graph_private.h"
#include "engine/plan_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

static Value build_lora_residual(Graph *g) {
    Value ab[2], skip = input(g, "skip", DT_F32, shape3(2, 3, 6));
    return add(g, net_lora(g, input(g, "x", DT_F32, shape3(2, 3, 4)), 6, 5, ab), skip);
}
static Value build_activation(Graph *g) {
    Value x = input(g, "x", DT_F32, shape3(2, 3, 4));
    return act(g, linear(g, x, net_param(g, "w", shape2(5, 4), false, 1), NULL), ACT_QUICK_GELU);
}
static Value build_basic_block(Graph *g) { /* relu(conv(relu(conv x)) + x) */
    Value x = input(g, "x", DT_F32, shape4(1, 3, 4, 4)), w = net_param(g, "w", shape4(3, 3, 3, 3), false, 1);
    Value h = act(g, conv2d(g, x, w, NULL, 1, pad_same(1)), ACT_RELU);
    return act(g, add(g, conv2d(g, h, w, NULL, 1, pad_same(1)), x), ACT_RELU);
}
static Value build_two_users(Graph *g) { /* the product is needed twice: nothing to fuse */
    Value x = input(g, "x", DT_F32, shape3(2, 3, 4));
    Value h = linear(g, x, net_param(g, "w", shape2(4, 4), false, 1), NULL);
    return mul(g, add(g, h, x), h);
}
static Value build_broadcast(Graph *g) { /* not a residual: it broadcasts */
    Value x = input(g, "x", DT_F32, shape3(2, 3, 4)), one = input(g, "one", DT_F32, shape3(1, 1, 4));
    return add(g, linear(g, x, net_param(g, "w", shape2(4, 4), false, 1), NULL), one);
}

static void fusion_saves_kernels_and_changes_nothing(void **state) {
    static const struct {
        const char *name;
        Value (*build)(Graph *g);
        int before, after;
    } cases[] = {
        {"resnet", build_resnet, 4, 2},
        {"lora", build_lora, 5, 3},
        {"lora and residual", build_lora_residual, 6, 3},
        {"linear and activation", build_activation, 2, 1},
        {"basic block", build_basic_block, 5, 2},
        {"two users", build_two_users, 3, 3},
        {"broadcast", build_broadcast, 2, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float y[2][512];
        Shape s = {0};
        for (int fused = 0; fused < 2; fused++) {
            Graph *g = graph_new(((Fixture *)*state)->arena);
            Value v = output(g, cases[i].build(g), "y");
            if (fused) assert_int_equal(fuse_graph(g, NULL), 0);
            int kernels = evaluate(*state, g, v, y[fused]);
            if (kernels != (fused ? cases[i].after : cases[i].before))
                fail_msg("%s: %d kernels", cases[i].name, kernels);
            s = v->shape;
        }
        for (int64_t k = 0; k < shape_count(s); k++)
            if (fabsf(y[0][k] - y[1][k]) > 1e-6f) fail_msg("%s: fused %g, plain %g", cases[i].name, y[1][k], y[0][k]);
    }
}

static void outputs_are_not_fused_away(void **state) {
    Graph *g = graph_new(((Fixture *)*state)->arena);
    Value x = input(g, "x", DT_F32, shape2(2, 4));
    Value h = output(g, linear(g, x, net_param(g, "w", shape2(4, 4), false, 1), NULL), "h");
    output(g, silu(g, h), "y");
    assert_int_equal(fuse_graph(g, NULL), 0);
    assert_int_equal(count_ops(g, OP_ACT), 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(fusion_saves_kernels_and_changes_nothing),
        TEST(outputs_are_not_fused_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
