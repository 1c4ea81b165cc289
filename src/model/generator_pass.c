/* Generator pass: builds, plans and runs the graph described in generator_pass.h. In the update it serves three stages:
 * generate (forward), feature (policy and reference rows) and gradient (backward). */
#include "model/generator_pass.h"

#include <stdlib.h>
#include <string.h>

#include "engine/autodiff.h"
#include "engine/plan.h"

struct GeneratorPass {
    Arena *arena;
    Graph *graph;
    Plan *plan;
    Backend *backend;
    GeneratorPassOptions options;
    int n_features;
    Value noise, time, latents;
    Value keys, shared;  /* of dropout masks: of candidates, of what they share; NULL: nothing is dropped */
    int32_t *key_values; /* [batch, DROPOUT_KEY] */
    TextInputs text;
    Value *feature, *seed; /* [n_features] */
    Value *grad;           /* [lora_leaves]; NULL where nothing depends on it */
    float *time_values;    /* [C0] */
    float *staging;        /* padded inputs or one gradient, floats */
    size_t image_count;    /* C*h*w */
};

static Value clean_latents(GeneratorPass *g, const Pipeline *p, Value eps) {
    const OneStep *o = g->options.released_x0 ? &p->released : &p->stock;
    return add(g->graph, affine(g->graph, g->noise, o->z_factor, 0), affine(g->graph, eps, -o->eps_factor, 0));
}

/* Inputs, UNet, x0 and features; everything before autodiff. */
static int append_forward(GeneratorPass *g, Pipeline *p, Error *err) {
    const GeneratorPassOptions *o = &g->options;
    Build build = {.g = g->graph,
                   .weights = o->adapter && o->adapter->full ? o->adapter->full : p->unet_weights,
                   .adapter = o->adapter,
                   .apart = g->backend->rounds,
                   .dropout = o->backward ? o->adapter->dropout : 0};
    const OneStep *one = o->released_x0 ? &p->released : &p->stock;
    int time_width = p->unet.channels[0];
    g->noise = input(g->graph, "noise", DT_F32, shape4(o->batch, p->unet.in_channels, o->height, o->width));
    g->time = input(g->graph, "time", DT_F32, shape2(1, time_width));
    g->time_values = arena_alloc(g->arena, (size_t)time_width * sizeof(float));
    g->key_values = arena_alloc(g->arena, (size_t)o->batch * DROPOUT_KEY * sizeof(int32_t));
    if (!g->time_values || !g->key_values) return fail(err, DRPO_E_MEMORY, "generator: out of memory");
    timestep_embedding(one->timestep, time_width, p->unet.flip_sin_to_cos, (float)p->unet.freq_shift, g->time_values);

    TRY(text_inputs_append(g->graph, p, o->height * p->factor, o->width * p->factor, &g->text, err));
    build.text = g->text.text;
    Value scaled = affine(g->graph, g->noise, one->input_scale, 0);
    Value eps = unet_build(&build, &p->unet, scaled, g->time, g->text.text, g->text.added);
    g->keys = build.keys;
    g->shared = build.shared;
    g->latents = output(g->graph, clean_latents(g, p, eps), "latents");
    TRY(graph_check(g->graph, err));
    if (!o->features) return 0;

    g->n_features = o->features->count;
    g->feature = arena_alloc(g->arena, (size_t)g->n_features * sizeof(Value));
    g->seed = arena_alloc(g->arena, (size_t)g->n_features * sizeof(Value));
    if (!g->feature || !g->seed) return fail(err, DRPO_E_MEMORY, "generator: out of memory");
    FeatureInputs in = {.pipeline = p, .latents = g->latents, .text = g->text.text, .added = g->text.added};
    TRY(o->features->build(o->features->maps, &build, &in, g->feature, err));
    if (in.draws) return fail(err, DRPO_E_INTERNAL, "a feature map that draws stands behind the generator");
    for (int i = 0; i < g->n_features; i++) g->feature[i] = output(g->graph, g->feature[i], "feature");
    return graph_check(g->graph, err);
}

static int append_backward(GeneratorPass *g, Error *err) {
    const Adapter *a = g->options.adapter;
    int leaves = lora_leaves(a);
    Value *leaf = arena_alloc(g->arena, (size_t)leaves * sizeof(Value));
    g->grad = arena_alloc(g->arena, (size_t)leaves * sizeof(Value));
    if (!leaf || !g->grad) return fail(err, DRPO_E_MEMORY, "generator: out of memory");
    for (int i = 0; i < leaves; i++) leaf[i] = param(g->graph, lora_leaf(a, i).param);
    for (int i = 0; i < g->n_features; i++) g->seed[i] = input(g->graph, "seed", DT_F32, g->feature[i]->shape);
    return graph_backward(g->graph, g->feature, g->seed, g->n_features, leaf, leaves, g->grad, err);
}

static int build_graph(GeneratorPass *g, Pipeline *p, Error *err) {
    const GeneratorPassOptions *o = &g->options;
    g->arena = arena_new();
    g->graph = g->arena ? graph_new(g->arena) : NULL;
    if (!g->graph) return fail(err, DRPO_E_MEMORY, "generator: out of memory");
    if (o->backward && (!o->adapter || !o->features))
        return fail(err, DRPO_E_INTERNAL, "generator: a gradient needs an adapter and features");
    g->image_count = (size_t)p->unet.in_channels * (size_t)o->height * (size_t)o->width;
    TRY(append_forward(g, p, err));
    TRY(fuse_graph(g->graph, err));
    if (!o->backward) return 0;
    TRY(append_backward(g, err));
    size_t peak;
    return recompute_graph(g->graph, g->backend, o->budget, &peak, err);
}

int generator_pass_measure(Pipeline *p, Backend *b, const GeneratorPassOptions *o, size_t *bytes, Error *err) {
    GeneratorPass g = {.backend = b, .options = *o};
    int code = build_graph(&g, p, err);
    if (code >= 0) *bytes = plan_measure(g.graph, b);
    arena_free(g.arena);
    return code;
}

static size_t staging_floats(const GeneratorPass *g) {
    size_t n = g->image_count * (size_t)g->options.batch;
    for (int i = 0; i < g->n_features; i++) {
        size_t feature = (size_t)shape_count(g->feature[i]->shape);
        if (feature > n) n = feature;
    }
    for (int i = 0; g->grad && i < lora_leaves(g->options.adapter); i++) {
        size_t count = (size_t)shape_count(lora_leaf(g->options.adapter, i).param->shape);
        if (count > n) n = count;
    }
    return n;
}

int generator_pass_new(Pipeline *p, Backend *b, const GeneratorPassOptions *o, GeneratorPass **out, Error *err) {
    GeneratorPass *g = calloc(1, sizeof *g);
    if (!g) return fail(err, DRPO_E_MEMORY, "generator: out of memory");
    g->backend = b;
    g->options = *o;
    int code = build_graph(g, p, err);
    if (code >= 0) code = plan_new(g->graph, b, &g->plan, err);
    if (code >= 0) {
        g->staging = malloc(staging_floats(g) * sizeof(float));
        if (!g->staging) code = fail(err, DRPO_E_MEMORY, "generator: out of memory");
    }
    if (code < 0) {
        generator_pass_free(g);
        return code;
    }
    *out = g;
    return 0;
}

void generator_pass_free(GeneratorPass *g) {
    if (!g) return;
    plan_free(g->plan);
    arena_free(g->arena);
    free(g->staging);
    free(g);
}

size_t generator_pass_bytes(const GeneratorPass *g) { return plan_peak(g->plan); }

int generator_pass_bind(GeneratorPass *g, void *memory, Error *err) { return plan_bind(g->plan, memory, err); }

int generator_pass_batch(const GeneratorPass *g) { return g->options.batch; }

int generator_pass_feature(const GeneratorPass *g, int i, int *tokens, int *dim) {
    if (i < 0 || i >= g->n_features) return -1;
    *tokens = (int)g->feature[i]->shape.dim[1];
    *dim = (int)g->feature[i]->shape.dim[2];
    return 0;
}

/* Rows beyond `count` repeat the last one, so that padding stays finite and never slower than real work. */
static void write_padded(GeneratorPass *g, Value node, const float *rows, size_t row, int count, bool zero) {
    int batch = g->options.batch;
    if (count == batch) {
        plan_write(g->plan, node, rows);
        return;
    }
    memcpy(g->staging, rows, row * (size_t)count * sizeof(float));
    for (int i = count; i < batch; i++) {
        float *to = g->staging + row * (size_t)i;
        if (zero)
            memset(to, 0, row * sizeof(float));
        else
            memcpy(to, rows + row * (size_t)(count - 1), row * sizeof(float));
    }
    plan_write(g->plan, node, g->staging);
}

bool generator_pass_drops(const GeneratorPass *g) { return g->keys || g->shared; }

static void write_key(int32_t out[DROPOUT_KEY], const RngKey *key, uint32_t candidate) {
    const uint32_t words[DROPOUT_KEY] = {key != NULL,         key ? (uint32_t)key->seed : 0, key ? key->seed >> 32 : 0,
                                         key ? key->step : 0, key ? key->prompt : 0,         candidate};
    memcpy(out, words, sizeof words);
}

/* key NULL: nothing is dropped. Padding repeats what the last candidate has. */
static void write_keys(GeneratorPass *g, const RngKey *key, int count) {
    const uint32_t first = key ? key->candidate : 0;
    for (int i = 0; i < g->options.batch; i++)
        write_key(g->key_values + i * DROPOUT_KEY, key, first + (uint32_t)(i < count ? i : count - 1));
    if (g->keys) plan_write(g->plan, g->keys, g->key_values);
    write_key(g->key_values, key, UINT32_MAX);
    if (g->shared) plan_write(g->plan, g->shared, g->key_values);
}

int generator_pass_forward(GeneratorPass *g, const float *text, const float *noise, int count, Error *err) {
    return generator_pass_forward_dropped(g, text, noise, NULL, count, err);
}

int generator_pass_forward_dropped(GeneratorPass *g, const float *text, const float *noise, const RngKey *first,
                                   int count, Error *err) {
    write_keys(g, first, count);
    plan_write(g->plan, g->time, g->time_values);
    text_inputs_write(g->plan, &g->text, text);
    write_padded(g, g->noise, noise, g->image_count, count, false);
    return plan_run_forward(g->plan, err);
}

static void read_rows(GeneratorPass *g, Value node, size_t row, float *rows, int count) {
    if (count == g->options.batch) {
        plan_read(g->plan, node, rows);
        return;
    }
    plan_read(g->plan, node, g->staging);
    memcpy(rows, g->staging, row * (size_t)count * sizeof(float));
}

void generator_pass_latents(GeneratorPass *g, float *latents, int count) {
    read_rows(g, g->latents, g->image_count, latents, count);
}

static size_t feature_row(const GeneratorPass *g, int i) {
    return (size_t)(g->feature[i]->shape.dim[1] * g->feature[i]->shape.dim[2]);
}

void generator_pass_features(GeneratorPass *g, int i, float *features, int count) {
    read_rows(g, g->feature[i], feature_row(g, i), features, count);
}

static void add_gradient(GeneratorPass *g, Value node, size_t offset, float *grad) {
    if (!node) return;
    size_t n = (size_t)shape_count(node->shape);
    plan_read(g->plan, node, g->staging);
    for (size_t i = 0; i < n; i++) grad[offset + i] += g->staging[i];
}

int generator_pass_backward(GeneratorPass *g, const float *const *seeds, int count, float *grad, Error *err) {
    for (int i = 0; i < g->n_features; i++) write_padded(g, g->seed[i], seeds[i], feature_row(g, i), count, true);
    TRY(plan_run_backward(g->plan, err));
    const Adapter *a = g->options.adapter;
    for (int i = 0; i < lora_leaves(a); i++) add_gradient(g, g->grad[i], lora_leaf(a, i).offset, grad);
    return 0;
}
