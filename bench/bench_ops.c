/* Times single ops of the cpu backend at the shapes of the embedded model and of a one-step generator at 512 pixels.
 *
 *     bench_ops [threads] [text that the name must contain]
 *
 * Prints microseconds (the best of several runs; with one thread of CPU time, so that a busy machine disturbs less),
 * GFLOP/s where an op multiplies, GB/s of what it must read and write.
 */
#include "base/arena.h"
#include "engine/autodiff.h"
#include "engine/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum Kind { CONV, LINEAR, LORA_A, ATTENTION, GROUP_NORM, LAYER_NORM, GEGLU, ADD, SILU, UPSAMPLE } Kind;

typedef struct Row {
    const char *name;
    Kind kind;
    int64_t n, c, out, size; /* batch; channels in and out; image side, or tokens for LINEAR.. (n * size rows) */
    int64_t kernel;          /* CONV: side; ATTENTION: keys, 0: as many as queries; negative: shared by the batch */
    int heads;
} Row;

static const Row rows[] = {
    {"tiny conv 48 16x16", CONV, 16, 48, 48, 16, 3, 0},
    {"tiny conv 96 8x8", CONV, 16, 96, 96, 8, 3, 0},
    {"tiny conv 96 4x4", CONV, 16, 96, 96, 4, 3, 0},
    {"tiny conv 4->48 16x16", CONV, 16, 4, 48, 16, 3, 0},
    {"tiny conv 1x1 96->48 16x16", CONV, 16, 96, 48, 16, 1, 0},
    {"tiny vae conv 48 32x32", CONV, 16, 48, 48, 32, 3, 0},
    {"tiny vae conv 16 64x64", CONV, 16, 16, 16, 64, 3, 0},
    {"tiny vae conv 16->3 64x64", CONV, 16, 16, 3, 64, 3, 0},
    {"tiny linear 48 16x16", LINEAR, 16, 48, 48, 256, 0, 0},
    {"tiny linear 96->768 8x8", LINEAR, 16, 96, 768, 64, 0, 0},
    {"tiny lora 48->16 16x16", LORA_A, 16, 48, 16, 256, 0, 0},
    {"tiny lora 16->48 16x16", LORA_A, 16, 16, 48, 256, 0, 0},
    {"tiny lora 96->16 8x8", LORA_A, 16, 96, 16, 64, 0, 0},
    {"tiny attention 16x16", ATTENTION, 16, 48, 48, 256, 0, 2},
    {"tiny attention 16x16 text", ATTENTION, 16, 48, 48, 256, 32, 2},
    {"tiny attention 8x8 text", ATTENTION, 16, 96, 96, 64, -32, 4},
    {"tiny group norm 48 16x16", GROUP_NORM, 16, 48, 48, 16, 0, 8},
    {"tiny group norm 96 4x4", GROUP_NORM, 16, 96, 96, 4, 0, 8},
    {"tiny layer norm 48 16x16", LAYER_NORM, 16, 48, 48, 256, 0, 0},
    {"tiny geglu 192 16x16", GEGLU, 16, 384, 192, 256, 0, 0},
    {"tiny add 48 16x16", ADD, 16, 48, 48, 16, 0, 0},
    {"conv 320 64x64", CONV, 1, 320, 320, 64, 3, 0},
    {"conv 640 32x32", CONV, 1, 640, 640, 32, 3, 0},
    {"conv 1280 16x16", CONV, 1, 1280, 1280, 16, 3, 0},
    {"conv 640 32x32, batch 8", CONV, 8, 640, 640, 32, 3, 0},
    {"conv 1280 16x16, batch 8", CONV, 8, 1280, 1280, 16, 3, 0},
    {"conv 2560->1280 8x8", CONV, 4, 2560, 1280, 8, 3, 0},
    {"vae conv 128 256x256", CONV, 1, 128, 128, 256, 3, 0},
    {"linear 320 64x64", LINEAR, 1, 320, 320, 4096, 0, 0},
    {"linear 320->2560 64x64", LINEAR, 1, 320, 2560, 4096, 0, 0},
    {"linear 1280 16x16", LINEAR, 1, 1280, 1280, 256, 0, 0},
    {"linear 1024->320 text", LINEAR, 1, 1024, 320, 77, 0, 0},
    {"lora 320->16 64x64", LORA_A, 1, 320, 16, 4096, 0, 0},
    {"lora 16->320 64x64", LORA_A, 1, 16, 320, 4096, 0, 0},
    {"attention 64x64", ATTENTION, 1, 320, 320, 4096, 0, 5},
    {"attention 64x64 text", ATTENTION, 1, 320, 320, 4096, 77, 5},
    {"attention 16x16", ATTENTION, 1, 1280, 1280, 256, 0, 20},
    {"vae attention 64x64", ATTENTION, 1, 512, 512, 4096, 0, 1},
    {"group norm 320 64x64", GROUP_NORM, 1, 320, 320, 64, 0, 32},
    {"layer norm 320 64x64", LAYER_NORM, 1, 320, 320, 4096, 0, 0},
    {"geglu 1280 64x64", GEGLU, 1, 2560, 1280, 4096, 0, 0},
    {"silu 320 64x64", SILU, 1, 320, 320, 64, 0, 0},
    {"add 320 64x64", ADD, 1, 320, 320, 64, 0, 0},
    {"upsample 640 32x32", UPSAMPLE, 1, 640, 640, 32, 0, 0},
};

/* A graph with one op, and what it costs. */
typedef struct Net {
    Arena *arena;
    Graph *g;
    Value x[3], y;
    Value weight; /* trainable */
    double flops; /* forward; gradients of one factor cost as much again */
} Net;

static void fill(float *values, size_t n) {
    for (size_t i = 0; i < n; i++) values[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
}

static Value weight(Net *net, Shape s, bool trainable) {
    Param *p = arena_alloc(net->arena, sizeof *p);
    float *values = arena_alloc(net->arena, (size_t)shape_count(s) * sizeof *values);
    fill(values, (size_t)shape_count(s));
    *p = (Param){.name = "weight", .dtype = DT_F32, .shape = s, .data = values, .trainable = trainable};
    Value v = param(net->g, p);
    if (trainable) net->weight = v;
    return v;
}

static Value tokens(Net *net, int i, int64_t n, int64_t t, int64_t c) {
    char name[8];
    snprintf(name, sizeof name, "x%d", i);
    return net->x[i] = input(net->g, name, DT_F32, shape3(n, t, c));
}

static void build(Net *net, const Row *r) {
    Graph *g = net->g;
    double pixels = (double)(r->n * r->size * r->size), rows_ = (double)(r->n * r->size);
    int64_t keys = r->kernel ? llabs((long long)r->kernel) : r->size, kv_n = r->kernel < 0 ? 1 : r->n;
    if (r->kind == CONV || r->kind == GROUP_NORM || r->kind == ADD || r->kind == SILU || r->kind == UPSAMPLE)
        net->x[0] = input(g, "x0", DT_F32, shape4(r->n, r->c, r->size, r->size));
    else
        tokens(net, 0, r->n, r->size, r->c);
    switch (r->kind) {
    case CONV:
        net->y = conv2d(g, net->x[0], weight(net, shape4(r->out, r->c, r->kernel, r->kernel), false), NULL, 1,
                        pad_same((int)r->kernel / 2));
        net->flops = 2 * pixels * (double)(r->c * r->out * r->kernel * r->kernel);
        break;
    case LINEAR:
    case LORA_A:
        net->y = linear(g, net->x[0], weight(net, shape2(r->out, r->c), r->kind == LORA_A), NULL);
        net->flops = 2 * rows_ * (double)(r->c * r->out);
        break;
    case ATTENTION:
        net->y = attention(g, net->x[0], tokens(net, 1, kv_n, keys, r->c), tokens(net, 2, kv_n, keys, r->c), r->heads,
                           false);
        net->flops = 4 * rows_ * (double)(keys * r->c);
        break;
    case GROUP_NORM:
        net->y = group_norm(g, net->x[0], weight(net, shape1(r->c), false), weight(net, shape1(r->c), false), r->heads,
                            1e-5f);
        net->y->attr.act = ACT_SILU;
        break;
    case LAYER_NORM:
        net->y = layer_norm(g, net->x[0], weight(net, shape1(r->c), false), weight(net, shape1(r->c), false), 1e-5f);
        break;
    case GEGLU: net->y = geglu(g, net->x[0]); break;
    case SILU: net->y = silu(g, net->x[0]); break;
    case UPSAMPLE: net->y = upsample2x(g, net->x[0]); break;
    case ADD: net->y = add(g, net->x[0], net->x[1] = input(g, "x1", DT_F32, net->x[0]->shape)); break;
    }
    output(g, net->y, "y");
}

static double seconds_now(bool cpu_time) {
    struct timespec t;
    clock_gettime(cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double best_seconds(Plan *p, bool backward, bool cpu_time) {
    Error err = {0};
    double best = 1e9, start = seconds_now(cpu_time);
    for (int i = 0; i < 3 || (seconds_now(cpu_time) - start < 0.25 && i < 2000); i++) {
        double t = seconds_now(cpu_time);
        int code = backward ? plan_run_backward(p, &err) : plan_run_forward(p, &err);
        t = seconds_now(cpu_time) - t;
        if (code < 0) fprintf(stderr, "%s\n", err.text);
        if (i > 0 && t < best) best = t;
    }
    return best;
}

static void report(const char *name, const char *what, double seconds, double flops, double bytes) {
    printf("%-28s %-10s %10.1f us", name, what, seconds * 1e6);
    if (flops > 0)
        printf(" %8.1f GFLOP/s\n", flops / seconds * 1e-9);
    else
        printf(" %8.1f GB/s\n", bytes / seconds * 1e-9);
}

static int time_row(const Row *r, Backend *b, bool cpu_time, Error *err) {
    Net net = {.arena = arena_new()};
    Value leaves[4], grads[4], seed;
    int n = 0;
    net.g = graph_new(net.arena);
    build(&net, r);
    for (int i = 0; i < 3; i++)
        if (net.x[i]) leaves[n++] = net.x[i];
    if (net.weight) leaves[n++] = net.weight;
    seed = input(net.g, "seed", DT_F32, net.y->shape);
    Plan *p = NULL;
    TRY(graph_backward(net.g, &net.y, &seed, 1, leaves, n, grads, err));
    TRY(plan_new(net.g, b, &p, err));
    TRY(plan_bind(p, NULL, err));
    for (int i = 0; i < 4; i++) {
        Value v = i < 3 ? net.x[i] : seed;
        if (!v) continue;
        float *values = malloc((size_t)shape_count(v->shape) * sizeof *values);
        if (!values) return fail(err, DRPO_E_MEMORY, "out of memory");
        fill(values, (size_t)shape_count(v->shape));
        plan_write(p, v, values);
        free(values);
    }
    double bytes = 0;
    for (int i = 0; i < 3; i++) bytes += net.x[i] ? 4.0 * (double)shape_count(net.x[i]->shape) : 0;
    bytes += 4.0 * (double)shape_count(net.y->shape);
    double more = r->kind == ATTENTION ? 2.5 : net.weight ? 2 : 1;
    report(r->name, "forward", best_seconds(p, false, cpu_time), net.flops, bytes);
    if (r->kind != ADD) report("", "gradient", best_seconds(p, true, cpu_time), net.flops * more, bytes);
    plan_free(p);
    arena_free(net.arena);
    return 0;
}

int main(int argc, char **argv) {
    Error err = {0};
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    Backend *b = backend_cpu_new(threads, &err);
    int code = b ? 0 : err.code;
    for (size_t i = 0; code == 0 && i < sizeof rows / sizeof rows[0]; i++)
        if (argc < 3 || strstr(rows[i].name, argv[2])) code = time_row(&rows[i], b, threads == 1, &err);
    if (code < 0) fprintf(stderr, "%s\n", err.text);
    if (b) backend_free(b);
    return code < 0;
}
