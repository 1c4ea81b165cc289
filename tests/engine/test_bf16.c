/* Products in bfloat16 (cpu/bf16.c): against the double-precision products of rounded factors, against those of the
 * factors themselves, what stays float32, and how weights are kept. */
#include "engine/cpu/cpu.h"
#include "engine/op_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

/* Layers whose weights are frozen: x, W, bias and residual, the seed of the gradient. */
typedef struct Layer {
    const char *name;
    Shape x, w, residual; /* residual: rank 0 for none */
    Attr attr;
    bool no_bias;
    bool stays; /* float32 on purpose */
} Layer;

static const Layer layers[] = {
    {"linear", .x = S3(2, 40, 48), .w = S2(64, 48), .residual = S3(2, 40, 64), .attr = {.alpha = 1}},
    {"linear, few rows", .x = S2(3, 80), .w = S2(32, 80), .attr = {.alpha = 1}},
    {"linear, alpha, no bias", .x = S3(1, 100, 33), .w = S2(17, 33), .attr = {.alpha = 0.5f}, .no_bias = true},
    {"linear, alpha, bias", .x = S3(1, 5, 40), .w = S2(24, 40), .attr = {.alpha = 0.5f}},
    {"linear, gelu", .x = S3(2, 40, 48), .w = S2(64, 48), .attr = {.alpha = 1, .act = ACT_GELU}},
    {"conv 1x1", .x = S4(2, 48, 9, 7), .w = S4(32, 48, 1, 1), .residual = S4(2, 32, 9, 7), .attr = {.stride = 1}},
    {"conv 3x3", .x = S4(2, 48, 6, 5), .w = S4(32, 48, 3, 3), .residual = S4(2, 32, 6, 5),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}},
    {"conv 3x3, odd channels", .x = S4(1, 19, 6, 5), .w = S4(35, 19, 3, 3),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}},
    {"conv 3x3 stride 2", .x = S4(2, 32, 8, 8), .w = S4(64, 32, 3, 3), .attr = {.stride = 2, .pad = PAD(0, 0, 1, 1)}},
    {"conv 3x3, silu", .x = S4(2, 48, 6, 5), .w = S4(32, 48, 3, 3),
     .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1), .act = ACT_SILU}},
    {"latents enter", .x = S4(2, 4, 8, 8), .w = S4(64, 4, 3, 3), .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)},
     .stays = true},
    {"latents leave", .x = S4(2, 64, 8, 8), .w = S4(4, 64, 3, 3), .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)},
     .stays = true},
};
enum { LAYERS = sizeof layers / sizeof *layers };

typedef struct Run {
    Arena *arena;
    Graph *g;
    Param w, bias;
    Value x, residual, seed, y, dx;
    Plan *plan;
} Run;

typedef struct Result {
    float *y, *dx; /* dx NULL behind an activation, which is fused and has no gradient */
} Result;

static float rounded(float value) {
    uint16_t half;
    bf16_from_floats(&value, 1, &half);
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&value, &bits, 4);
    return value;
}

/* Not on bfloat16's grid: 24 bits of a hash. */
static float *values(Arena *a, Shape s, unsigned salt, bool round) {
    size_t n = (size_t)shape_count(s);
    float *v = arena_alloc(a, n * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        uint64_t h = (i + 1 + 100003ull * salt) * 0x9E3779B97F4A7C15u;
        h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9u;
        v[i] = (float)((double)(h >> 40) / (1 << 23) - 1.0);
        if (round) v[i] = rounded(v[i]);
    }
    return v;
}

static void must(int code, const Error *err) {
    if (code < 0) fail_msg("%s", err->text);
}

static void build(Run *r, const Layer *l, bool round, bool precise) {
    Error err = {0};
    bool conv = l->w.rank == 4;
    r->arena = arena_new();
    r->g = graph_new(r->arena);
    r->w = (Param){
        .name = "w", .dtype = DT_F32, .shape = l->w, .data = values(r->arena, l->w, 1, round), .precise = precise};
    Shape out = shape1(l->w.dim[0]);
    r->bias = (Param){.name = "b", .dtype = DT_F32, .shape = out, .data = values(r->arena, out, 2, false)};
    r->x = input(r->g, "x", DT_F32, l->x);
    r->residual = l->residual.rank ? input(r->g, "r", DT_F32, l->residual) : NULL;
    Value in[] = {r->x, param(r->g, &r->w), l->no_bias ? NULL : param(r->g, &r->bias), r->residual};
    r->y = output(r->g, append(r->g, conv ? OP_CONV2D : OP_LINEAR, l->attr, in, 4, (Shape){0}), "y");
    must(graph_check(r->g, &err), &err);
    r->seed = r->dx = NULL;
    if (l->attr.act != ACT_NONE) return;
    r->seed = input(r->g, "seed", DT_F32, r->y->shape);
    must(graph_backward(r->g, &r->y, &r->seed, 1, &r->x, 1, &r->dx, &err), &err);
}

static void plan_layer(Run *r, Backend *b, bool round) {
    Error err = {0};
    must(plan_new(r->g, b, &r->plan, &err), &err);
    must(plan_bind(r->plan, NULL, &err), &err);
    plan_write(r->plan, r->x, values(r->arena, r->x->shape, 3, round));
    if (r->residual) plan_write(r->plan, r->residual, values(r->arena, r->residual->shape, 4, false));
    if (r->seed) plan_write(r->plan, r->seed, values(r->arena, r->seed->shape, 5, round));
    must(plan_run(r->plan, &err), &err);
}

static void close_run(Run *r, Backend *b) {
    plan_free(r->plan);
    backend_free(b);
    arena_free(r->arena);
}

/* Takes the backend over. */
static Result compute(const Layer *l, Backend *b, bool round, bool precise) {
    Run r;
    Result out = {0};
    if (!b) fail_msg("no backend");
    build(&r, l, round, precise);
    plan_layer(&r, b, round);
    out.y = malloc((size_t)shape_count(r.y->shape) * sizeof(float));
    plan_read(r.plan, r.y, out.y);
    if (r.dx) {
        out.dx = malloc((size_t)shape_count(r.dx->shape) * sizeof(float));
        plan_read(r.plan, r.dx, out.dx);
    }
    close_run(&r, b);
    return out;
}

static Backend *open_cpu(bool bf16, bool exact) {
    Error err = {0};
    Backend *b = backend_cpu_open(&(CpuOptions){.threads = 2, .bf16 = bf16, .exact = exact}, &err);
    if (!b) fail_msg("%s", err.text);
    return b;
}

static size_t output_count(const Layer *l) {
    if (l->w.rank == 2) return (size_t)(shape_count(l->x) / l->x.dim[l->x.rank - 1] * l->w.dim[0]);
    const Attr *a = &l->attr;
    int64_t h = (l->x.dim[2] + a->pad.top + a->pad.bottom - l->w.dim[2]) / a->stride + 1,
            w = (l->x.dim[3] + a->pad.left + a->pad.right - l->w.dim[3]) / a->stride + 1;
    return (size_t)(l->x.dim[0] * l->w.dim[0] * h * w);
}

static double distance(const float *a, const float *b, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference) / (sqrt(size) + 1e-12);
}

/* The larger of the distances of result and gradient. */
static double gap(const Layer *l, const Result *a, const Result *b) {
    double y = distance(a->y, b->y, output_count(l));
    double dx = a->dx ? distance(a->dx, b->dx, (size_t)shape_count(l->x)) : 0;
    return y > dx ? y : dx;
}

static void free_result(Result *r) {
    free(r->y);
    free(r->dx);
}

static Result reference(const Layer *l, bool round) {
    Error err = {0};
    return compute(l, backend_ref_new(&err), round, false);
}

static void skip_without(void) {
    if (backend_cpu_bf16() == BF16_NONE) skip();
}

/* The double-precision product of rounded factors is met as float32 sums meet it; that of the factors themselves as
 * eight bits do, and no better: the rounding is there. */
static void products_are_those_of_rounded_factors(void **state) {
    (void)state;
    skip_without();
    for (int i = 0; i < LAYERS; i++) {
        const Layer *l = &layers[i];
        Result got = compute(l, open_cpu(true, true), false, false), plain = reference(l, false),
               round = reference(l, true);
        double to_round = gap(l, &got, &round), to_plain = gap(l, &got, &plain);
        if (!(l->stays ? to_plain < 1e-6 : to_round < 1e-6))
            fail_msg("%s: %.2e from the product of rounded factors, %.2e from the product", l->name, to_round,
                     to_plain);
        if (!(to_plain < 1e-2)) fail_msg("%s: %.2e from the product", l->name, to_plain);
        if (!l->stays && !(to_plain > 1e-4)) fail_msg("%s: nothing was rounded", l->name);
        free_result(&got);
        free_result(&plain);
        free_result(&round);
    }
}

/* Weights that are called precise, and trainable ones (test_ops.c), multiply in float32. */
static void precise_weights_stay(void **state) {
    (void)state;
    skip_without();
    for (int i = 0; i < LAYERS; i++) {
        Result got = compute(&layers[i], open_cpu(true, true), false, true), plain = reference(&layers[i], false);
        double off = gap(&layers[i], &got, &plain);
        if (!(off < 1e-6)) fail_msg("%s: %.2e", layers[i].name, off);
        free_result(&got);
        free_result(&plain);
    }
}

/* Half of float32, one copy for both directions of a linear layer; nothing where the file has bfloat16. */
static void packed_weights_take_half(void **state) {
    (void)state;
    skip_without();
    const Layer linear = {"linear", .x = S3(2, 40, 48), .w = S2(64, 48), .attr = {.alpha = 1}, .no_bias = true};
    const Layer conv = {"conv", .x = S4(2, 64, 6, 6), .w = S4(64, 64, 3, 3),
                        .attr = {.stride = 1, .pad = PAD(1, 1, 1, 1)}, .no_bias = true};
    Run r;
    Backend *b = open_cpu(true, true);
    build(&r, &linear, false, false);
    plan_layer(&r, b, false);
    assert_int_equal(b->packed_bytes(b), 64 * 48 * 2);
    assert_true(b->copies(b, &r.w));
    close_run(&r, b);

    for (int bf16 = 0; bf16 < 2; bf16++) {
        b = open_cpu(bf16, true);
        build(&r, &conv, false, false);
        plan_layer(&r, b, false);
        assert_int_equal(b->packed_bytes(b), 2 * 64 * 64 * 9 * (bf16 ? 2 : 4)); /* forward and gradient */
        close_run(&r, b);
    }

    b = open_cpu(true, true);
    build(&r, &linear, true, false);
    uint16_t *half = arena_alloc(r.arena, 64 * 48 * sizeof *half);
    bf16_from_floats(r.w.data, 64 * 48, half);
    Result expected = reference(&linear, true);
    r.w.dtype = DT_BF16;
    r.w.data = half;
    plan_layer(&r, b, true);
    assert_int_equal(b->packed_bytes(b), 0);
    assert_false(b->copies(b, &r.w));
    float *y = malloc(output_count(&linear) * sizeof *y);
    plan_read(r.plan, r.y, y);
    assert_true(distance(y, expected.y, output_count(&linear)) < 1e-6);
    free(y);
    free_result(&expected);
    close_run(&r, b);
}

static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
                 {0xbf807fff, 0xbf80}, {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x80000000, 0x8000},
                 {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float value;
        uint16_t got;
        memcpy(&value, &cases[i].from, 4);
        bf16_from_floats(&value, 1, &got);
        if (got != cases[i].to) fail_msg("%08x became %04x, not %04x", cases[i].from, got, cases[i].to);
    }
}

/* Every op of the table, weights frozen, to eight bits of the reference. */
static double op_gap(const OpCase *row) {
    Error err = {0};
    Backend *b[] = {backend_ref_new(&err), open_cpu(true, true)};
    float *y[2];
    size_t n = 0;
    for (int k = 0; k < 2; k++) {
        Arena *arena = arena_new();
        CaseGraph c;
        Plan *p;
        must(case_build(row, arena, &c, &err), &err);
        for (int i = 0; i < c.n_leaf; i++)
            if (c.leaf[i]->op == OP_PARAM) c.leaf[i]->param->trainable = false;
        must(plan_new(c.g, b[k], &p, &err), &err);
        must(plan_bind(p, NULL, &err), &err);
        case_write(&c, p);
        must(plan_run(p, &err), &err);
        n = (size_t)shape_count(c.y->shape);
        y[k] = malloc(n * sizeof(float));
        plan_read(p, c.y, y[k]);
        plan_free(p);
        backend_free(b[k]);
        arena_free(arena);
    }
    double off = distance(y[1], y[0], n);
    free(y[0]);
    free(y[1]);
    return off;
}

static void every_op_agrees_to_eight_bits(void **state) {
    (void)state;
    skip_without();
    for (int i = 0; i < N_OP_CASES; i++) {
        double off = op_gap(&op_cases[i]);
        if (!(off < 1e-2)) fail_msg("%s is off by %.2e", op_cases[i].name, off);
    }
}

static void refused_where_there_is_none(void **state) {
    (void)state;
    Error err = {0};
    if (backend_cpu_bf16() != BF16_NONE) skip();
    assert_null(backend_cpu_open(&(CpuOptions){.threads = 1, .bf16 = true}, &err));
    assert_int_equal(err.code, DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "AVX-512"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_to_nearest_even),   cmocka_unit_test(products_are_those_of_rounded_factors),
        cmocka_unit_test(precise_weights_stay),          cmocka_unit_test(packed_weights_take_half),
        cmocka_unit_test(every_op_agrees_to_eight_bits), cmocka_unit_test(refused_where_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
