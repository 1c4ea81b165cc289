/* Weights: every tensor wanted once, every mistake named. */
#include "check.h"
#include "format/safetensors.h"
#include "model/build.h"

/* A file with w [2,3] and b [2] in F16, an integer tensor and one under "extra.". */
static const char *write_model(const char *folder, const char *file) {
    static const uint16_t half[6] = {0x3c00, 0x4000, 0x4200, 0xbc00, 0, 0x3800}; /* 1 2 3 -1 0 0.5 */
    static const int32_t whole[2] = {1, 2};
    const SafeTensor tensors[] = {{"layer.weight", DT_F16, 2, {2, 3}, half, 12},
                                  {"layer.bias", DT_F16, 1, {2}, half, 4},
                                  {"extra.ids", DT_I32, 1, {2}, whole, 8},
                                  {"deep", DT_F16, 5, {1, 1, 1, 1, 2}, half, 4}};
    Error err = {0};
    assert_ok(safetensors_write(in_dir(folder, file), tensors, 4, NULL, 0, &err), err);
    return folder;
}

static void test_every_tensor_once(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    assert_ok(weights_open(write_model(fresh_dir("weights", folder), "model.safetensors"), "model", &w, &err), err);
    assert_int_equal(weights_bytes(w), 28);
    assert_true(weights_has(w, "layer.%s", "bias"));
    assert_false(weights_has(w, "layer.gain"));
    Param *weight = weights_get(w, shape2(2, 3), "%s.weight", "layer");
    assert_non_null(weight);
    assert_ptr_equal(weight, weights_get(w, shape2(2, 3), "layer.weight"));
    assert_string_equal(weight->name, "layer.weight");
    assert_false(weight->trainable);
    float values[6];
    dtype_to_f32(weight->dtype, weight->data, 0, 6, values);
    assert_true(values[2] == 3 && values[3] == -1 && values[5] == 0.5f);
    assert_fails(weights_finish(w, &err), DRPO_E_INPUT, "'deep' (one of 3)", err);
    weights_ignore(w, "extra.");
    weights_ignore(w, "deep");
    assert_fails(weights_finish(w, &err), DRPO_E_INPUT, "'layer.bias' (one of 1)", err);
    assert_non_null(weights_get(w, shape1(2), "layer.bias"));
    assert_ok(weights_finish(w, &err), err);
    weights_free(w);
}

/* Opens the model anew, asks for one tensor, and returns what weights_finish says. */
static int ask(const char *folder, Shape shape, const char *name, Error *err) {
    Weights *w;
    assert_ok(weights_open(folder, "model", &w, err), *err);
    assert_null(weights_mistake(w));
    assert_null(weights_get(w, shape, "%s", name));
    assert_non_null(weights_mistake(w));
    int code = weights_finish(w, err);
    weights_free(w);
    return code;
}

static void test_mistakes(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    write_model(fresh_dir("weights", folder), "model.safetensors");
    assert_fails(ask(folder, shape2(3, 3), "layer.gain", &err), DRPO_E_INPUT, "'layer.gain' [3, 3] is missing", err);
    assert_fails(ask(folder, shape2(3, 2), "layer.weight", &err), DRPO_E_INPUT,
                 "has shape [2, 3], config.json asks for [3, 2]", err);
    assert_fails(ask(folder, shape1(2), "extra.ids", &err), DRPO_E_INPUT, "type I32", err);
    assert_fails(ask(folder, shape1(2), "deep", &err), DRPO_E_INPUT, "too many dimensions", err);
}

/* A layer without its tensor stops the graph with the sentence that weights_finish would say. */
static void test_layers_pass_the_reason_on(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Arena *arena = arena_new();
    Build b = {.g = graph_new(arena)};
    assert_ok(weights_open(write_model(fresh_dir("weights", folder), "model.safetensors"), "model", &b.weights, &err),
              err);
    Value x = input(b.g, "x", DT_F32, shape2(5, 3));
    assert_non_null(layer_linear(&b, x, 2, true, "layer"));
    assert_ok(graph_check(b.g, &err), err);
    assert_null(layer_linear(&b, x, 7, false, "%s", "other"));
    assert_fails(graph_check(b.g, &err), DRPO_E_INPUT, "'other.weight' [7, 3] is missing", err);
    weights_free(b.weights);
    arena_free(arena);
}

/* Whatever the type, one value with all exponent bits set is found. */
static void test_finite(void **state) {
    (void)state;
    static const uint32_t single[3] = {0x7f7fffff, 0xff800000, 0x7fc00000}; /* largest, -infinity, not a number */
    static const uint16_t half[3] = {0x7bff, 0xfc00, 0x7e00}, brain[3] = {0x7f7f, 0xff80, 0x7fc0};
    static const uint64_t wide[3] = {0x7fefffffffffffff, 0xfff0000000000000, 0x7ff8000000000000};
    const struct {
        DType type;
        const void *data;
    } kind[] = {{DT_F32, single}, {DT_F16, half}, {DT_BF16, brain}, {DT_F64, wide}};
    char folder[512];
    Error err = {0};
    Weights *w;
    fresh_dir("weights", folder);
    for (size_t i = 0; i < 4; i++)
        for (int bad = 0; bad < 3; bad++) {
            size_t bytes = dtype_bytes(kind[i].type);
            const SafeTensor tensors[] = {
                {"good", kind[i].type, 1, {1}, kind[i].data, bytes},
                {"last", kind[i].type, 1, {1}, (const char *)kind[i].data + (size_t)bad * bytes, bytes}};
            assert_ok(safetensors_write(in_dir(folder, "model.safetensors"), tensors, 2, NULL, 0, &err), err);
            assert_ok(weights_open(folder, "model", &w, &err), err);
            if (bad)
                assert_string_equal(weights_not_finite(w), "last");
            else
                assert_null(weights_not_finite(w));
            weights_free(w);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_tensor_once), cmocka_unit_test(test_mistakes),
                                       cmocka_unit_test(test_finite),

                                       cmocka_unit_test(test_layers_pass_the_reason_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
