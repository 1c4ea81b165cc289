/* Differentiation as graph surgery: who gets a gradient and who does not, how uses add up, and what is refused. Values
 * are checked against finite differences in test_ops.c. */
#include "engine/graph_private.h"
#include "engine/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

static int open_arena(void **state) { return (*state = arena_new()) ? 0 : -1; }
static int close_arena(void **state) {
    arena_free(*state);
    return 0;
}

static void backward(Graph *g, Value y, Value *leaves, int n, Value *grads) {
    Error err = {0};
    Value seed = input(g, "seed", DT_F32, y->shape);
    if (graph_backward(g, &y, &seed, 1, leaves, n, grads, &err) < 0) fail_msg("%s", err.text);
}

static void run(Graph *g, Value read, float *out) {
    Error err = {0};
    Backend *b = backend_ref_new(&err);
    Plan *p;
    float scratch[4096];
    if (plan_new(g, b, &p, &err) < 0 || plan_bind(p, NULL, &err) < 0) fail_msg("%s", err.text);
    net_write(g, p, scratch);
    assert_int_equal(plan_run(p, &err), 0);
    plan_read(p, read, out);
    plan_free(p);
    backend_free(b);
}

static void frozen_weights_get_no_gradient(void **state) {
    Graph *g = graph_new(*state);
    Value ab[2], grads[2];
    Value x = input(g, "x", DT_F32, shape3(2, 3, 4));
    Value h = net_resnet(g, to_image(g, x, 1, 3), 1); /* below the adapter: the pass must not reach it */
    Value y = net_lora(g, to_tokens(g, h), 6, 50, ab);
    y = output(g, to_tokens(g, net_resnet(g, to_image(g, y, 1, 3), 2)), "y");
    int forward = graph_size(g);
    backward(g, y, ab, 2, grads);
    assert_non_null(grads[0]);
    assert_non_null(grads[1]);
    assert_true(grads[0]->output && shape_equal(grads[0]->shape, ab[0]->shape));
    assert_int_equal(count_ops(g, OP_LINEAR_DW), 2); /* A and B, not W */
    assert_int_equal(count_ops(g, OP_CONV2D_DW), 0);
    assert_int_equal(count_ops(g, OP_GROUP_NORM_DWB), 0);
    assert_int_equal(count_ops(g, OP_CONV2D_DX), 1); /* the block above only */
    assert_int_equal(count_ops(g, OP_GROUP_NORM_DX), 1);
    assert_int_equal(count_ops(g, OP_LINEAR_DX), 1); /* through B to A; nothing into x */
    for (int id = forward + 1; id < graph_size(g); id++) assert_true(graph_node(g, id)->backward);
    for (int id = 0; id < forward; id++) assert_false(graph_node(g, id)->backward);
}

static void leaf_without_influence_gets_null(void **state) {
    Graph *g = graph_new(*state);
    Value leaf[2] = {input(g, "a", DT_F32, shape2(2, 3)), input(g, "b", DT_F32, shape2(2, 3))}, grads[2];
    silu(g, leaf[1]);
    backward(g, output(g, silu(g, leaf[0]), "y"), leaf, 2, grads);
    assert_non_null(grads[0]);
    assert_null(grads[1]);
    assert_int_equal(count_ops(g, OP_ACT_GRAD), 1);
}

/* y = x * x + 3 x + linear(x): dx = 2 x s + 3 s + s W, with the product's gradient taking the rest as its residual */
static void uses_add_up(void **state) {
    Graph *g = graph_new(*state);
    Value x = input(g, "x", DT_F32, shape2(2, 3)), grad;
    Value w = net_param(g, "w", shape2(3, 3), false, 7);
    Value y = output(g, add(g, add(g, mul(g, x, x), affine(g, x, 3, 0)), linear(g, x, w, NULL)), "y");
    backward(g, y, &x, 1, &grad);
    float got[6];
    const float *weight = w->param->data;
    Value seed = graph_find(g, "seed");
    run(g, grad, got);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 3; j++) {
            double expected = 0;
            for (int o = 0; o < 3; o++)
                expected += (double)net_value(seed, (size_t)(i * 3 + o)) * (double)weight[o * 3 + j];
            double dy = (double)net_value(seed, (size_t)(i * 3 + j));
            expected += dy * (2 * (double)net_value(x, (size_t)(i * 3 + j)) + 3);
            assert_true(fabs(expected - (double)got[i * 3 + j]) < 1e-5);
        }
    }
}

/* x + linear(x): the residual's gradient and the product's end in one kernel. */
static void residual_gradient_is_fused(void **state) {
    Graph *g = graph_new(*state);
    Value x = input(g, "x", DT_F32, shape2(2, 3)), grad;
    Value y = add(g, x, linear(g, x, net_param(g, "w", shape2(3, 3), false, 7), NULL));
    y = output(g, y, "y");
    assert_int_equal(fuse_graph(g, NULL), 0);
    backward(g, y, &x, 1, &grad);
    assert_int_equal(count_ops(g, OP_ADD), 0);
    assert_int_equal(grad->op, OP_LINEAR_DX);
    assert_int_equal(grad->n_in, 3);
}

static void several_outputs_share_one_pass(void **state) {
    Graph *g = graph_new(*state);
    Error err = {0};
    Value x = input(g, "x", DT_F32, shape2(2, 3)), h = silu(g, x), grad;
    Value outputs[2] = {output(g, affine(g, h, 2, 0), "a"), output(g, affine(g, h, 5, 0), "b")};
    Value seeds[2] = {input(g, "sa", DT_F32, shape2(2, 3)), input(g, "sb", DT_F32, shape2(2, 3))};
    assert_int_equal(graph_backward(g, outputs, seeds, 2, &x, 1, &grad, &err), 0);
    assert_int_equal(count_ops(g, OP_ACT_GRAD), 1);
}

static void op_without_vjp_is_named(void **state) {
    Graph *g = graph_new(*state);
    Error err = {0};
    Value x = input(g, "x", DT_F32, shape2(2, 3)), seed = input(g, "seed", DT_F32, shape2(2, 3)), grad;
    Value y = append(g, OP_ACT_GRAD, (Attr){.act = ACT_SILU}, (Value[]){x, seed}, 2, (Shape){0});
    y = output(g, affine(g, y, 2, 0), "y");
    assert_int_equal(graph_backward(g, &y, &seed, 1, &x, 1, &grad, &err), DRPO_E_INTERNAL);
    assert_non_null(strstr(err.text, "ACT_GRAD"));
}

static void wrong_requests_are_refused(void **state) {
    Graph *g = graph_new(*state);
    Error err = {0};
    Value x = input(g, "x", DT_F32, shape2(2, 3)), seed = input(g, "seed", DT_F32, shape2(3, 2)), grad;
    Value y = output(g, silu(g, x), "y");
    assert_int_equal(graph_backward(g, &y, &seed, 1, &x, 1, &grad, &err), DRPO_E_INTERNAL);
    assert_non_null(strstr(err.text, "[3, 2]"));
    error_clear(&err);
    Value good = input(g, "good", DT_F32, shape2(2, 3));
    assert_int_equal(graph_backward(g, &y, &good, 1, &y, 1, &grad, &err), DRPO_E_INTERNAL);
    assert_non_null(strstr(err.text, "neither an input nor a parameter"));
}

/* A fused activation hides what its derivative needs: autodiff takes it apart where, and only where, a gradient passes.
 */
static void fused_activations_are_split_on_the_path(void **state) {
    float got[2][6];
    for (int fused = 0; fused < 2; fused++) {
        Graph *g = graph_new(*state);
        Value x = input(g, "x", DT_F32, shape2(2, 3)), frozen = input(g, "t", DT_F32, shape2(2, 3)), grad;
        Value w = net_param(g, "w", shape2(3, 3), false, 7);
        Value y = mul(g, silu(g, linear(g, x, w, NULL)), silu(g, linear(g, frozen, w, NULL)));
        y = output(g, y, "y");
        if (fused) assert_int_equal(fuse_graph(g, NULL), 0);
        assert_int_equal(count_ops(g, OP_ACT), fused ? 0 : 2);
        backward(g, y, &x, 1, &grad);
        assert_int_equal(count_ops(g, OP_ACT), fused ? 1 : 2);
        run(g, grad, got[fused]);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
}

/* A LoRA layer with a residual, a resnet block and relu above it: the same gradients with and without fusion. */
static void gradients_survive_fusion(void **state) {
    float got[2][2][8];
    for (int fused = 0; fused < 2; fused++) {
        Graph *g = graph_new(*state);
        Value ab[2], grads[2], x = input(g, "x", DT_F32, shape3(2, 6, 4));
        Value h = to_image(g, add(g, x, net_lora(g, x, 4, 50, ab)), 2, 3);
        h = net_resnet(g, act(g, net_resnet(g, h, 1), ACT_RELU), 2);
        Value y = output(g, h, "y");
        int before = graph_size(g);
        if (fused) assert_int_equal(fuse_graph(g, NULL), 0);
        assert_true(graph_size(g) == before - (fused ? 3 + 2 + 2 + 1 : 0)); /* lora, two blocks, relu */
        backward(g, y, ab, 2, grads);
        for (int i = 0; i < 2; i++) run(g, grads[i], got[fused][i]);
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 8; k++) {
            assert_true(got[0][i][k] != 0);
            assert_true(fabsf(got[0][i][k] - got[1][i][k]) < 1e-6f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frozen_weights_get_no_gradient, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(leaf_without_influence_gets_null, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(uses_add_up, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(residual_gradient_is_fused, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(several_outputs_share_one_pass, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(op_without_vjp_is_named, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(wrong_requests_are_refused, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(gradients_survive_fusion, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(fused_activations_are_split_on_the_path, open_arena, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
