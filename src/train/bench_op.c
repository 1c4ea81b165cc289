/* `drpo bench op`: times single ops of the cpu backend at real shapes.
 *
 * The roofline of an op is the longer of flops / peak and bytes / bandwidth, both measured at the start with ops of the
 * same backend: a large matrix product and the sum of two large tensors. `share` says how much of it the op reaches.
 * Convolutions count the operations of the direct sum, so Winograd's may pass 100 %. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "engine/autodiff.h"
#include "engine/plan.h"
#include "train/bench.h"
#include "train/session.h"

typedef enum Kind { CONV, LINEAR, LORA, ATTENTION, GROUP_NORM, LAYER_NORM, GEGLU, ADD, SILU, UPSAMPLE } Kind;

typedef struct Row {
    const char *name;
    Kind kind;
    int64_t n, c, out, size; /* batch; channels in and out; image side, or tokens for LINEAR.. (n * size rows) */
    int64_t kernel;          /* CONV: side; ATTENTION: keys, 0: as many as queries; negative: shared by the batch */
    int groups;              /* heads, or groups of a norm */
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
    {"tiny lora 48->16 16x16", LORA, 16, 48, 16, 256, 0, 0},
    {"tiny lora 16->48 16x16", LORA, 16, 16, 48, 256, 0, 0},
    {"tiny attention 16x16", ATTENTION, 16, 48, 48, 256, 0, 2},
    {"tiny attention 16x16 text", ATTENTION, 16, 48, 48, 256, 32, 2},
    {"tiny attention 8x8 text", ATTENTION, 16, 96, 96, 64, -32, 3},
    {"tiny group norm 48 16x16", GROUP_NORM, 16, 48, 48, 16, 0, 6},
    {"tiny group norm 96 4x4", GROUP_NORM, 16, 96, 96, 4, 0, 6},
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
    {"lora 320->16 64x64", LORA, 1, 320, 16, 4096, 0, 0},
    {"lora 16->320 64x64", LORA, 1, 16, 320, 4096, 0, 0},
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
static const Row peak_row = {"product 2048", LINEAR, 1, 2048, 2048, 2048, 0, 0};
static const Row copy_row = {"sum of 2 x 64 MiB", ADD, 1, 1024, 1024, 128, 0, 0};

/* ---- a graph with one op ---- */
typedef struct Net {
    Arena *arena;
    Graph *g;
    Value x[3], y;
    Value weight; /* trainable */
    double flops; /* forward; the gradient of one factor costs as much again */
    double bytes; /* inputs, weights and result, once each */
} Net;

static void fill(float *values, size_t n) {
    for (size_t i = 0; i < n; i++) values[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f;
}

static Value weight(Net *net, Shape s, bool trainable) {
    size_t n = (size_t)shape_count(s);
    Param *p = arena_alloc(net->arena, sizeof *p);
    float *values = arena_alloc(net->arena, n * sizeof *values);
    if (!p || !values) return NULL;
    fill(values, n);
    *p = (Param){.name = "weight", .dtype = DT_F32, .shape = s, .data = values, .trainable = trainable};
    net->bytes += 4.0 * (double)n;
    Value v = param(net->g, p);
    if (trainable) net->weight = v;
    return v;
}

static Value new_input(Net *net, int i, Shape s) {
    static const char *const names[] = {"x0", "x1", "x2"};
    net->bytes += 4.0 * (double)shape_count(s);
    return net->x[i] = input(net->g, names[i], DT_F32, s);
}

static void build_attention(Net *net, const Row *r) {
    int64_t keys = r->kernel ? llabs((long long)r->kernel) : r->size, kv_n = r->kernel < 0 ? 1 : r->n;
    Value k = new_input(net, 1, shape3(kv_n, keys, r->c)), v = new_input(net, 2, shape3(kv_n, keys, r->c));
    net->y = attention(net->g, net->x[0], k, v, r->groups, false);
    net->flops = 4 * (double)(r->n * r->size) * (double)(keys * r->c);
}

static void build(Net *net, const Row *r) {
    Graph *g = net->g;
    bool image = r->kind == CONV || r->kind == GROUP_NORM || r->kind == ADD || r->kind == SILU || r->kind == UPSAMPLE;
    Value x = new_input(net, 0, image ? shape4(r->n, r->c, r->size, r->size) : shape3(r->n, r->size, r->c));
    if (!x) return;
    double many = (double)(shape_count(x->shape) / r->c); /* pixels or tokens */
    switch (r->kind) {
    case CONV:
        net->y = conv2d(g, x, weight(net, shape4(r->out, r->c, r->kernel, r->kernel), false), NULL, 1,
                        pad_same((int)r->kernel / 2));
        net->flops = 2 * many * (double)(r->c * r->out * r->kernel * r->kernel);
        break;
    case LINEAR:
    case LORA:
        net->y = linear(g, x, weight(net, shape2(r->out, r->c), r->kind == LORA), NULL);
        net->flops = 2 * many * (double)(r->c * r->out);
        break;
    case ATTENTION: build_attention(net, r); break;
    case GROUP_NORM:
        net->y = group_norm(g, x, weight(net, shape1(r->c), false), weight(net, shape1(r->c), false), r->groups, 1e-5f);
        if (net->y) net->y->attr.act = ACT_SILU;
        break;
    case LAYER_NORM:
        net->y = layer_norm(g, x, weight(net, shape1(r->c), false), weight(net, shape1(r->c), false), 1e-5f);
        break;
    case GEGLU: net->y = geglu(g, x); break;
    case SILU: net->y = silu(g, x); break;
    case UPSAMPLE: net->y = upsample2x(g, x); break;
    case ADD: net->y = add(g, x, new_input(net, 1, x->shape)); break;
    }
    output(g, net->y, "y");
    if (net->y) net->bytes += 4.0 * (double)shape_count(net->y->shape);
}

static int write_values(Plan *p, Value v, Error *err) {
    if (!v) return 0;
    size_t n = (size_t)shape_count(v->shape);
    float *values = malloc(n * sizeof *values);
    if (!values) return fail(err, DRPO_E_MEMORY, "out of memory");
    fill(values, n);
    plan_write(p, v, values);
    free(values);
    return 0;
}

static int open_plan(Net *net, Backend *b, Plan **p, Error *err) {
    Value leaves[4], grads[4];
    int n = 0;
    for (int i = 0; i < 3; i++)
        if (net->x[i]) leaves[n++] = net->x[i];
    if (net->weight) leaves[n++] = net->weight;
    TRY(graph_check(net->g, err));
    Value seed = input(net->g, "seed", DT_F32, net->y->shape);
    TRY(graph_backward(net->g, &net->y, &seed, 1, leaves, n, grads, err));
    TRY(plan_new(net->g, b, p, err));
    TRY(plan_bind(*p, NULL, err));
    for (int i = 0; i < 3; i++) TRY(write_values(*p, net->x[i], err));
    return write_values(*p, seed, err);
}

/* ---- time ---- */
static int best_seconds(Plan *p, bool backward, double *best, Error *err) {
    double start = clock_seconds();
    *best = 0;
    for (int i = 0; i < 3 || (clock_seconds() - start < 0.25 && i < 2000); i++) {
        double t = clock_seconds();
        TRY(backward ? plan_run_backward(p, err) : plan_run_forward(p, err));
        t = clock_seconds() - t;
        if (i > 0 && (*best == 0 || t < *best)) *best = t;
    }
    return 0;
}

typedef struct Roofline {
    double flops, bytes; /* a second */
} Roofline;

typedef struct Times {
    double forward, gradient; /* seconds */
    double flops, gradient_flops, bytes;
} Times;

static int time_row(const Row *r, Backend *b, Times *out, Error *err) {
    Net net = {.arena = arena_new()};
    Plan *p = NULL;
    net.g = net.arena ? graph_new(net.arena) : NULL;
    if (!net.g) return fail(err, DRPO_E_MEMORY, "out of memory");
    build(&net, r);
    int code = open_plan(&net, b, &p, err);
    if (code == 0) code = best_seconds(p, false, &out->forward, err);
    if (code == 0 && r->kind != ADD) code = best_seconds(p, true, &out->gradient, err);
    out->flops = net.flops;
    out->gradient_flops = net.flops * (r->kind == ATTENTION ? 2.5 : net.weight ? 2 : 1);
    out->bytes = net.bytes;
    plan_free(p);
    arena_free(net.arena);
    return code;
}

static void tell(const Job *job, const char *name, const char *what, double seconds, double flops, double bytes,
                 const Roofline *roof) {
    double compute = flops / roof->flops, memory = bytes / roof->bytes, least = compute > memory ? compute : memory;
    if (config_bool(job->config, OPT_JSON))
        job_result(job,
                   "{\"op\": \"%s\", \"pass\": \"%s\", \"microseconds\": %.1f, \"gflops\": %.1f, \"gbytes\": %.1f, "
                   "\"share\": %.3f}",
                   name, what, seconds * 1e6, flops / seconds * 1e-9, bytes / seconds * 1e-9, least / seconds);
    else
        job_result(job, "%-28s %-8s %10.1f us %8.1f GFLOP/s %7.1f GB/s %5.0f %%", name, what, seconds * 1e6,
                   flops / seconds * 1e-9, bytes / seconds * 1e-9, 100 * least / seconds);
}

static int measure_roofline(const Job *job, Backend *b, Roofline *out, Error *err) {
    Times t;
    TRY(time_row(&peak_row, b, &t, err));
    out->flops = t.flops / t.forward;
    TRY(time_row(&copy_row, b, &t, err));
    out->bytes = t.bytes / t.forward;
    if (config_bool(job->config, OPT_JSON))
        job_result(job, "{\"peak_gflops\": %.1f, \"peak_gbytes\": %.1f}", out->flops * 1e-9, out->bytes * 1e-9);
    else
        job_result(job, "roofline: %.0f GFLOP/s (%s), %.1f GB/s (%s)", out->flops * 1e-9, peak_row.name,
                   out->bytes * 1e-9, copy_row.name);
    return 0;
}

static int time_rows(const Job *job, Backend *b, Error *err) {
    const char *only = config_text(job->config, OPT_BENCH_ONLY);
    Roofline roof;
    int told = 0;
    TRY(measure_roofline(job, b, &roof, err));
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !job_cancelled(job); i++) {
        Times t = {0};
        if (!strstr(rows[i].name, only)) continue;
        TRY(time_row(&rows[i], b, &t, err));
        tell(job, rows[i].name, "forward", t.forward, t.flops, t.bytes, &roof);
        if (t.gradient > 0) tell(job, rows[i].name, "gradient", t.gradient, t.gradient_flops, t.bytes, &roof);
        told++;
    }
    return told ? 0 : fail(err, DRPO_E_USAGE, "--only %s: no op has a name with this in it", only);
}

int bench_ops(const Job *job, Error *err) {
    CpuOptions options = {.threads = (int)config_int(job->config, OPT_THREADS)};
    TRY(session_arithmetic(job->config, backend_cpu_bf16(), &options, err));
    Backend *b = backend_cpu_open(&options, err);
    if (!b) return err->code;
    int code = time_rows(job, b, err);
    backend_free(b);
    return code;
}
