/* Writing graphs down: shapes are inferred, the first mistake is reported by name, names find nodes. */
#include "engine/graph_private.h"
#include "engine/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

static Graph *new_graph(void **state) { return graph_new(*state); }

static int open_arena(void **state) { return (*state = arena_new()) ? 0 : -1; }
static int close_arena(void **state) {
    arena_free(*state);
    return 0;
}

static void assert_shape(Value v, Shape s) {
    char got[96], expected[96];
    assert_non_null(v);
    assert_string_equal(shape_text(v->shape, got), shape_text(s, expected));
}

static void shapes_are_inferred(void **state) {
    Graph *g = new_graph(state);
    Value x = input(g, "x", DT_F32, shape4(2, 4, 9, 8));
    Value w = net_param(g, "w", shape4(6, 4, 3, 3), false, 1);
    assert_shape(conv2d(g, x, w, NULL, 2, pad_same(1)), shape4(2, 6, 5, 4));
    assert_shape(conv2d(g, x, w, NULL, 2, (Pad){0, 0, 1, 1}), shape4(2, 6, 4, 4));
    assert_shape(to_tokens(g, x), shape3(2, 72, 4));
    assert_shape(upsample2x(g, x), shape4(2, 4, 18, 16));
    Value t = input(g, "t", DT_F32, shape3(2, 5, 6));
    assert_shape(geglu(g, t), shape3(2, 5, 3));
    assert_shape(matmul(g, t, t, false, true), shape3(2, 5, 5));
    assert_shape(matmul(g, t, t, true, false), shape3(2, 6, 6));
    assert_shape(linear(g, t, net_param(g, "l", shape2(7, 6), false, 2), NULL), shape3(2, 5, 7));
    assert_shape(slice(g, t, 1, 2, 3), shape3(2, 3, 6));
    assert_shape(add(g, t, input(g, "one", DT_F32, shape3(1, 5, 1))), shape3(2, 5, 6));
    assert_int_equal(graph_check(g, NULL), 0);
    for (int id = 0; id < graph_size(g); id++)
        for (int i = 0; i < graph_node(g, id)->n_in; i++)
            if (graph_node(g, id)->in[i]) assert_true(graph_node(g, id)->in[i]->id < id);
}

/* One wrong call each; the text must contain what a person needs to find it. */
static Value wrong_linear(Graph *g) {
    return linear(g, input(g, "x", DT_F32, shape2(2, 5)), net_param(g, "to_q.weight", shape2(3, 4), false, 1), NULL);
}
static Value wrong_bias(Graph *g) {
    Value w = net_param(g, "w", shape2(3, 4), false, 1), b = net_param(g, "b", shape1(4), false, 2);
    return linear(g, input(g, "x", DT_F32, shape2(2, 4)), w, b);
}
static Value wrong_add(Graph *g) {
    return add(g, input(g, "a", DT_F32, shape3(2, 3, 4)), input(g, "b", DT_F32, shape3(2, 5, 4)));
}
static Value wrong_conv(Graph *g) {
    Value w = net_param(g, "conv_in.weight", shape4(8, 3, 3, 3), false, 1);
    return conv2d(g, input(g, "x", DT_F32, shape4(1, 4, 8, 8)), w, NULL, 1, pad_same(1));
}
static Value wrong_groups(Graph *g) {
    Value w = net_param(g, "w", shape1(6), false, 1);
    return group_norm(g, input(g, "x", DT_F32, shape4(1, 6, 2, 2)), w, w, 4, 1e-5f);
}
static Value wrong_heads(Graph *g) {
    Value q = input(g, "q", DT_F32, shape3(1, 2, 10));
    return attention(g, q, q, q, 3, false);
}
static Value wrong_batch(Graph *g) {
    Value k = input(g, "k", DT_F32, shape3(2, 2, 10));
    return attention(g, input(g, "q", DT_F32, shape3(3, 2, 10)), k, k, 2, false);
}
static Value wrong_reshape(Graph *g) { return reshape(g, input(g, "x", DT_F32, shape4(1, 6, 2, 2)), shape2(1, 24)); }
static Value wrong_pool(Graph *g) { return avg_pool(g, input(g, "x", DT_F32, shape4(1, 3, 6, 5)), 2); }
static Value wrong_slice(Graph *g) { return slice(g, input(g, "x", DT_F32, shape2(4, 4)), 1, 2, 3); }
static Value wrong_type(Graph *g) { return affine(g, input(g, "ids", DT_I32, shape2(4, 4)), 2, 0); }
static Value wrong_order(Graph *g) {
    return affine(g, net_param(g, "conv.weight", shape4(2, 2, 3, 3), false, 1), 2, 0);
}
static Value missing_weight(Graph *g) { return linear(g, input(g, "x", DT_F32, shape2(4, 4)), param(g, NULL), NULL); }
static Value missing_value(Graph *g) { return add(g, input(g, "x", DT_F32, shape2(4, 4)), NULL); }

static void mistakes_are_reported_once(void **state) {
    static const struct {
        Value (*build)(Graph *g);
        const char *text[3];
    } wrong[] = {
        {wrong_linear, {"LINEAR", "to_q.weight", "takes 4 features, x has 5"}},
        {wrong_bias, {"LINEAR", "bias", "[3]"}},
        {wrong_add, {"ADD", "a [2, 3, 4]", "dimension 1"}},
        {wrong_conv, {"CONV2D", "conv_in.weight", "takes 3 channels, x has 4"}},
        {wrong_groups, {"GROUP_NORM", "6 channels", "4 groups"}},
        {wrong_heads, {"ATTENTION", "width 10", "3 heads"}},
        {wrong_batch, {"ATTENTION", "batch", "batch 1"}},
        {wrong_reshape, {"reshape", "[1, 6, 2, 2]", "to_tokens"}},
        {wrong_pool, {"AVG_POOL", "2 x 2", "tile"}},
        {wrong_slice, {"SLICE", "x [4, 4]", "[4, 3]"}},
        {wrong_type, {"AFFINE", "ids", "I32"}},
        {wrong_order, {"AFFINE", "conv.weight", "convolution"}},
        {missing_weight, {"weight is missing", "", ""}},
        {missing_value, {"ADD", "input 1", "missing"}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Graph *g = new_graph(state);
        Error err = {0};
        Value x = wrong[i].build(g);
        assert_null(x);
        assert_null(silu(g, x)); /* what uses it is NULL too and does not hide the cause */
        assert_int_equal(graph_check(g, &err), DRPO_E_INPUT);
        for (int k = 0; k < 3; k++)
            if (!strstr(err.text, wrong[i].text[k])) fail_msg("'%s' does not say '%s'", err.text, wrong[i].text[k]);
    }
}

static void names_find_inputs_and_outputs(void **state) {
    Graph *g = new_graph(state);
    Value x = input(g, "x", DT_F32, shape2(2, 2));
    Value hidden = set_name(g, affine(g, x, 2, 0), "block.%d", 3);
    Value y = output(g, hidden, "first"), again = output(g, y, "second");
    assert_ptr_equal(graph_find(g, "x"), x);
    assert_ptr_equal(graph_find(g, "first"), hidden);
    assert_ptr_equal(graph_find(g, "second"), again);
    assert_true(again != y && again->output); /* both names stay */
    assert_null(graph_find(g, "block.3"));
}

static void one_node_per_param(void **state) {
    Graph *g = new_graph(state);
    static const float one[1] = {1};
    Param p = {.name = "w", .dtype = DT_F32, .shape = shape1(1), .data = one};
    Value first = param(g, &p);
    for (int i = 0; i < 1000; i++) affine(g, first, 1, 0); /* lists grow */
    assert_ptr_equal(param(g, &p), first);
    assert_int_equal(graph_size(g), 1001);
}

static void every_float_type_is_read(void **state) {
    (void)state;
    static const uint16_t half[6] = {0x3C00, 0xC000, 0x3555, 0x0001, 0x7C00, 0x83FF};
    static const float half_values[6] = {
        1, -2, 0.333251953125f, 5.9604644775390625e-8f, INFINITY, -6.097555160522461e-5f};
    static const uint16_t brain[2] = {0x3FC0, 0xC2C8}; /* 1.5, -100 */
    static const double wide[2] = {0.25, -8};
    unsigned char shifted[13];
    float out[6];
    memcpy(shifted + 1, half, 12); /* unaligned */
    dtype_to_f32(DT_F16, shifted + 1, 0, 6, out);
    for (int i = 0; i < 6; i++) assert_true(out[i] == half_values[i]);
    dtype_to_f32(DT_BF16, brain, 1, 1, out);
    assert_true(out[0] == -100);
    dtype_to_f32(DT_F64, wide, 0, 2, out);
    assert_true(out[0] == 0.25f && out[1] == -8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shapes_are_inferred, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(mistakes_are_reported_once, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(names_find_inputs_and_outputs, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(one_node_per_param, open_arena, close_arena),
        cmocka_unit_test(every_float_type_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
