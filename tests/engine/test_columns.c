/* Products with weights that stay as their file has them: convolutions with few pixels as products with columns, and
 * the gradient of linear layers. Values and gradients of the reference backend, in every float type, with strides and
 * uneven padding, in one block and in several, and no float32 copy beside the file. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "engine/autodiff.h"
#include "engine/plan.h"

typedef struct Case {
    const char *name;
    DType type;
    int64_t n, in, out, height, width; /* width 0: a linear layer, [n, height] rows */
    int64_t kernel;
    int stride;
    Pad pad;
    bool bias, residual;
    Act act;
} Case;

/* At least 2^20 weights, or oneDNN's own convolution is used. */
static const Case cases[] = {
    {"f16", DT_F16, 2, 341, 349, 4, 5, 3, 1, {1, 1, 1, 1}, true, false, ACT_NONE},
    {"bf16 with residual and activation", DT_BF16, 1, 352, 340, 3, 3, 3, 1, {1, 1, 1, 1}, true, true, ACT_SILU},
    {"f32 in its place", DT_F32, 2, 336, 352, 4, 4, 3, 1, {1, 1, 1, 1}, true, true, ACT_NONE},
    {"stride 2", DT_F16, 2, 350, 340, 8, 6, 3, 2, {1, 1, 1, 1}, true, false, ACT_NONE},
    {"stride 2, padded after", DT_F32, 1, 344, 352, 7, 8, 3, 2, {0, 0, 1, 1}, false, false, ACT_NONE},
    {"5 x 5", DT_F16, 1, 210, 208, 5, 4, 5, 1, {2, 2, 2, 2}, false, true, ACT_NONE},
    {"more columns than fit at once", DT_BF16, 4, 2600, 46, 20, 17, 3, 2, {1, 1, 1, 1}, true, false, ACT_NONE},
    {"linear f16", DT_F16, 1, 1100, 300, 7, 0, 0, 0, {0}, true, true, ACT_NONE},
    {"linear bf16", DT_BF16, 2, 1030, 257, 5, 0, 0, 0, {0}, false, false, ACT_NONE},
};

static float value(size_t i, unsigned salt) {
    uint64_t h = (i + 1) * 0x9E3779B97F4A7C15u + salt * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 29) * 0x94D049BB133111EBu;
    return (float)((double)(h >> 40) / (1 << 23) - 1.0);
}

static float *values(Arena *a, Shape s, unsigned salt) {
    const size_t n = (size_t)shape_count(s);
    float *v = arena_alloc(a, n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) v[i] = value(i, salt);
    return v;
}

/* 16-bit numbers at an odd address; float32 where a kernel may read them in place. */
static const void *weight_values(Arena *a, Shape s, DType type) {
    float *full = values(a, s, 1);
    if (type == DT_F32) return full;
    const size_t n = (size_t)shape_count(s);
    unsigned char *bytes = arena_alloc(a, 2 * n + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &full[i], sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        if (type == DT_F16) half = (uint16_t)((0x3400u + (i * 37 % 0x400)) | (i % 3 ? 0u : 0x8000u));
        memcpy(bytes + 1 + 2 * i, &half, 2);
    }
    return bytes + 1;
}

typedef struct Net {
    Arena *arena;
    Param weight, bias;
    Value x, residual, dy, y, dx;
    Plan *plan;
} Net;

static void build(Net *net, const Case *c, Backend *b) {
    Error err = {0};
    *net = (Net){.arena = arena_new()};
    Graph *g = graph_new(net->arena);
    const bool is_linear = c->width == 0;
    const Shape w = is_linear ? shape2(c->out, c->in) : shape4(c->out, c->in, c->kernel, c->kernel),
                vector = shape1(c->out);
    net->weight = (Param){.name = "w", .dtype = c->type, .shape = w, .data = weight_values(net->arena, w, c->type)};
    net->weight.stored = c->type != DT_F32;
    net->bias = (Param){.name = "b", .dtype = DT_F32, .shape = vector, .data = values(net->arena, vector, 2)};
    net->x =
        input(g, "x", DT_F32, is_linear ? shape3(c->n, c->height, c->in) : shape4(c->n, c->in, c->height, c->width));
    Value bias = c->bias ? param(g, &net->bias) : NULL, weight = param(g, &net->weight);
    const Attr attr = {.act = c->act, .stride = c->stride, .pad = c->pad, .alpha = 1};
    Value plain = is_linear ? linear(g, net->x, weight, NULL) : conv2d(g, net->x, weight, NULL, c->stride, c->pad);
    net->residual = input(g, "r", DT_F32, plain->shape);
    net->dy = input(g, "dy", DT_F32, plain->shape);
    Value in[4] = {net->x, weight, bias, c->residual ? net->residual : NULL};
    Value y = append(g, is_linear ? OP_LINEAR : OP_CONV2D, attr, in, 4, (Shape){0});
    net->y = output(g, affine(g, y, 1, 0), "y");
    assert_ok(graph_backward(g, &plain, &net->dy, 1, &net->x, 1, &net->dx, &err), err);
    assert_ok(plan_new(g, b, &net->plan, &err), err);
    assert_ok(plan_bind(net->plan, NULL, &err), err);
}

static void run(Net *net, float *y, float *dx) {
    Error err = {0};
    plan_write(net->plan, net->x, values(net->arena, net->x->shape, 3));
    plan_write(net->plan, net->residual, values(net->arena, net->residual->shape, 4));
    plan_write(net->plan, net->dy, values(net->arena, net->dy->shape, 5));
    assert_ok(plan_run(net->plan, &err), err);
    plan_read(net->plan, net->y, y);
    plan_read(net->plan, net->dx, dx);
}

static void close_net(Net *net) {
    plan_free(net->plan);
    arena_free(net->arena);
}

static double off_by(const float *got, const float *want, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i], 2);
    }
    assert_true(size > 0);
    return sqrt(difference / size);
}

static void check(const Case *c, int threads, bool exact) {
    Error err = {0};
    Net want, got;
    const double limit = exact ? 1e-6 : 1e-5;
    Backend *ref = backend_ref_new(&err),
            *cpu = backend_cpu_open(&(CpuOptions){.threads = threads, .exact = exact}, &err);
    assert_true(ref && cpu);
    build(&want, c, ref);
    build(&got, c, cpu);
    if (cpu->packed_bytes(cpu) != 0) fail_msg("%s: the weight was copied", c->name);
    const size_t ny = (size_t)shape_count(got.y->shape), nx = (size_t)shape_count(got.dx->shape);
    float *y = calloc(2 * ny, sizeof *y), *dx = calloc(2 * nx, sizeof *dx);
    assert_true(y && dx);
    run(&want, y, dx);
    run(&got, y + ny, dx + nx);
    const double forward = off_by(y + ny, y, ny), gradient = off_by(dx + nx, dx, nx);
    if (!(forward < limit)) fail_msg("%s is off by %.2e", c->name, forward);
    if (!(gradient < limit)) fail_msg("the gradient of %s is off by %.2e", c->name, gradient);
    free(y);
    free(dx);
    close_net(&want);
    close_net(&got);
    backend_free(ref);
    backend_free(cpu);
}

static void weights_in_their_file(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check(&cases[i], 1 + (int)(i % 2), true);
}

/* The first three cases, which Winograd's method reads from the file as well. */
static void weights_in_their_file_with_winograd(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) check(&cases[i], 2 - i % 2, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_in_their_file),
                                       cmocka_unit_test(weights_in_their_file_with_winograd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
