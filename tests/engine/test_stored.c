/* Linear layers whose weight stays in its stored 16-bit type: the values of the reference backend, in whole and in cut
 * panels, with everything that may be fused into the product, from memory at odd addresses, and no float32 copy. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "engine/plan.h"

enum { ROWS = 5, IN = 41, MOST_OUT = 2100 };

typedef struct Layer {
    const char *name;
    int64_t out;
    DType type;
    float alpha;
    Act act;
    bool bias, residual;
} Layer;

static float value(size_t i, unsigned salt) {
    uint64_t h = (i + 1) * 0x9E3779B97F4A7C15u + salt * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 29) * 0x94D049BB133111EBu;
    return (float)((double)(h >> 40) / (1 << 23) - 1.0);
}

/* 16-bit numbers of moderate size at an odd address */
static unsigned char weight_bytes[2 * MOST_OUT * IN + 1];

static void fill_weight(const Layer *l) {
    for (size_t i = 0; i < (size_t)(l->out * IN); i++) {
        float x = value(i, 1);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        if (l->type == DT_F16) half = (uint16_t)((0x3400u + (i * 37 % 0x400)) | (i % 3 ? 0u : 0x8000u));
        memcpy(weight_bytes + 1 + 2 * i, &half, 2);
    }
}

static void run(const Layer *l, Backend *b, bool stored, float *y) {
    Error err = {0};
    Arena *arena = arena_new();
    Graph *g = graph_new(arena);
    static float x_values[ROWS * IN], rest_values[ROWS * MOST_OUT], bias_values[MOST_OUT];
    for (size_t i = 0; i < ROWS * IN; i++) x_values[i] = value(i, 2);
    for (size_t i = 0; i < ROWS * MOST_OUT; i++) rest_values[i] = value(i, 3);
    for (size_t i = 0; i < MOST_OUT; i++) bias_values[i] = value(i, 4);
    Param w = {.name = "w", .dtype = l->type, .shape = shape2(l->out, IN), .data = weight_bytes + 1, .stored = stored};
    Param bias = {.name = "b", .dtype = DT_F32, .shape = shape1(l->out), .data = bias_values};
    Value x = input(g, "x", DT_F32, shape3(1, ROWS, IN)), rest = input(g, "r", DT_F32, shape3(1, ROWS, l->out));
    Value in[4] = {x, param(g, &w), l->bias ? param(g, &bias) : NULL, l->residual ? rest : NULL};
    Value out = append(g, OP_LINEAR, (Attr){.alpha = l->alpha, .act = l->act}, in, 4, (Shape){0});
    Value kept = output(g, affine(g, out, 1, 0), "y");
    Plan *p = NULL;
    assert_ok(plan_new(g, b, &p, &err), err);
    assert_ok(plan_bind(p, NULL, &err), err);
    plan_write(p, x, x_values);
    if (l->residual) plan_write(p, rest, rest_values);
    assert_ok(plan_run(p, &err), err);
    plan_read(p, kept, y);
    plan_free(p);
    arena_free(arena);
}

static const Layer layers[] = {
    {"one cut panel", 70, DT_BF16, 1, ACT_NONE, false, false},
    {"exactly one panel", 1024, DT_BF16, 1, ACT_NONE, true, false},
    {"whole panels and a rest", 2100, DT_BF16, 1, ACT_NONE, true, true},
    {"f16", 1100, DT_F16, 1, ACT_NONE, true, false},
    {"activation", 1030, DT_BF16, 1, ACT_SILU, true, false},
    {"factor, bias, residual, activation", 1030, DT_F16, 0.5f, ACT_QUICK_GELU, true, true},
};

static void stored_weights_give_the_same_values(void **state) {
    (void)state;
    static float want[ROWS * MOST_OUT], got[ROWS * MOST_OUT];
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const Layer *l = &layers[i];
        Error err = {0};
        Backend *ref = backend_ref_new(&err), *cpu = backend_cpu_new(2, &err);
        assert_true(ref && cpu);
        fill_weight(l);
        run(l, ref, true, want);
        run(l, cpu, true, got);
        double difference = 0, size = 0;
        for (size_t k = 0; k < (size_t)(ROWS * l->out); k++) {
            difference += pow((double)got[k] - (double)want[k], 2);
            size += pow((double)want[k], 2);
        }
        if (!(difference <= 1e-12 * size)) fail_msg("%s is off by %.2e", l->name, sqrt(difference / size));
        backend_free(ref);
        backend_free(cpu);
    }
}

static size_t held(const Layer *l, bool stored) {
    Error err = {0};
    Backend *cpu = backend_cpu_new(1, &err);
    Arena *arena = arena_new();
    Graph *g = graph_new(arena);
    Param w = {.name = "w", .dtype = l->type, .shape = shape2(l->out, IN), .data = weight_bytes + 1, .stored = stored};
    Value x = input(g, "x", DT_F32, shape3(1, ROWS, IN));
    output(g, linear(g, x, param(g, &w), NULL), "y");
    Plan *p = NULL;
    assert_ok(plan_new(g, cpu, &p, &err), err);
    size_t bytes = cpu->packed_bytes(cpu);
    plan_free(p);
    arena_free(arena);
    backend_free(cpu);
    return bytes;
}

static void nothing_is_held_as_float32(void **state) {
    (void)state;
    assert_int_equal(held(&layers[0], true), 0);
    assert_true(held(&layers[0], false) >= 70 * IN * sizeof(float));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stored_weights_give_the_same_values),
                                       cmocka_unit_test(nothing_is_held_as_float32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
