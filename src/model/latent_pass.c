/* Latent pass: builds, plans and runs the graph described in latent_pass.h. In the update: the feature stage of maps
 * that stand beside the generator, and the way back from them. */
#include "model/latent_pass.h"

#include <stdlib.h>
#include <string.h>

#include "engine/autodiff.h"

struct LatentPass {
    Arena *arena;
    Graph *graph;
    Plan *plan;
    Backend *backend;
    LatentPassOptions options;
    int n_features;
    FeatureInputs in;
    TextInputs text;
    Value *feature, *seed; /* [n_features] */
    Value gradient;        /* of the latents; NULL where nothing depends on them */
    size_t row;            /* C*h*w */
    float *staging;        /* a padded input or output */
};

static int append_forward(LatentPass *l, Pipeline *p, Error *err) {
    const LatentPassOptions *o = &l->options;
    const FeatureBuilder *f = o->features;
    Build build = {.g = l->graph};
    l->in = (FeatureInputs){.pipeline = p};
    l->in.latents = input(l->graph, "latents", DT_F32, shape4(o->batch, p->latent_channels, o->height, o->width));
    l->row = (size_t)p->latent_channels * (size_t)o->height * (size_t)o->width;
    if (f->needs_text) {
        TRY(text_inputs_append(l->graph, p, o->height * p->factor, o->width * p->factor, &l->text, err));
        l->in.text = l->text.text;
        l->in.added = l->text.added;
    }
    l->n_features = f->count;
    l->feature = arena_alloc(l->arena, (size_t)f->count * sizeof(Value));
    l->seed = arena_alloc(l->arena, (size_t)f->count * sizeof(Value));
    if (!l->feature || !l->seed) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    TRY(f->build(f->maps, &build, &l->in, l->feature, err));
    TRY(graph_check(l->graph, err));
    for (int i = 0; i < f->count; i++) l->feature[i] = output(l->graph, l->feature[i], "feature");
    return graph_check(l->graph, err);
}

static int build_graph(LatentPass *l, Pipeline *p, size_t budget, size_t *least, Error *err) {
    l->arena = arena_new();
    l->graph = l->arena ? graph_new(l->arena) : NULL;
    if (!l->graph) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    TRY(append_forward(l, p, err));
    TRY(fuse_graph(l->graph, err));
    if (!l->options.backward) return 0;
    for (int i = 0; i < l->n_features; i++) l->seed[i] = input(l->graph, "seed", DT_F32, l->feature[i]->shape);
    TRY(graph_backward(l->graph, l->feature, l->seed, l->n_features, &l->in.latents, 1, &l->gradient, err));
    return recompute_graph(l->graph, l->backend, budget, least, err);
}

/* A graph that was rewritten for a budget it cannot keep is built once more for what it can. */
static int build_within(LatentPass *l, Pipeline *p, Error *err) {
    size_t least = 0;
    int code = build_graph(l, p, l->options.budget, &least, err);
    if (code != DRPO_E_MEMORY || !least || !l->options.tight) return code;
    arena_free(l->arena);
    if (err) error_clear(err);
    return build_graph(l, p, least, &least, err);
}

int latent_pass_measure(Pipeline *p, Backend *b, const LatentPassOptions *o, size_t *bytes, Error *err) {
    LatentPass l = {.backend = b, .options = *o};
    int code = build_within(&l, p, err);
    if (code >= 0) *bytes = plan_measure(l.graph, b);
    arena_free(l.arena);
    return code;
}

static size_t largest_tensor(const LatentPass *l) {
    size_t n = l->row * (size_t)l->options.batch;
    for (int i = 0; i < l->n_features + l->in.draws; i++) {
        const Node *node = i < l->n_features ? l->feature[i] : l->in.draw[i - l->n_features].node;
        const size_t count = (size_t)shape_count(node->shape);
        if (count > n) n = count;
    }
    return n;
}

int latent_pass_new(Pipeline *p, Backend *b, const LatentPassOptions *o, LatentPass **out, Error *err) {
    LatentPass *l = calloc(1, sizeof *l);
    if (!l) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    l->backend = b;
    l->options = *o;
    int code = build_within(l, p, err);
    if (code >= 0) code = plan_new(l->graph, b, &l->plan, err);
    if (code >= 0 && !(l->staging = malloc(largest_tensor(l) * sizeof(float))))
        code = fail(err, DRPO_E_MEMORY, "features: out of memory");
    if (code < 0) {
        latent_pass_free(l);
        return code;
    }
    *out = l;
    return 0;
}

void latent_pass_free(LatentPass *l) {
    if (!l) return;
    plan_free(l->plan);
    arena_free(l->arena);
    free(l->staging);
    free(l);
}

size_t latent_pass_bytes(const LatentPass *l) { return plan_peak(l->plan); }
int latent_pass_bind(LatentPass *l, void *memory, Error *err) { return plan_bind(l->plan, memory, err); }
int latent_pass_batch(const LatentPass *l) { return l->options.batch; }

int latent_pass_feature(const LatentPass *l, int i, int *tokens, int *dim) {
    if (i < 0 || i >= l->n_features) return -1;
    *tokens = (int)l->feature[i]->shape.dim[1];
    *dim = (int)l->feature[i]->shape.dim[2];
    return 0;
}

static size_t row_of(const LatentPass *l, const Node *n) {
    return (size_t)shape_count(n->shape) / (size_t)l->options.batch;
}

/* Rows beyond `count` repeat the last one: finite, and never slower than real work. Of seeds they are zero. */
static void write_rows(LatentPass *l, Value node, const float *rows, int count, bool zero) {
    const size_t row = row_of(l, node);
    if (rows != l->staging) memcpy(l->staging, rows, row * (size_t)count * sizeof(float));
    for (int i = count; i < l->options.batch; i++) {
        float *to = l->staging + row * (size_t)i;
        if (zero)
            memset(to, 0, row * sizeof(float));
        else
            memcpy(to, l->staging + row * (size_t)(count - 1), row * sizeof(float));
    }
    plan_write(l->plan, node, l->staging);
}

int latent_pass_forward(LatentPass *l, const float *text, const LatentDraw *draw, int first, const float *latents,
                        int count, Error *err) {
    for (int k = 0; k < l->in.draws; k++) {
        const FeatureDraw *d = &l->in.draw[k];
        for (int i = 0; i < count; i++) {
            RngKey key = draw->key;
            key.stream = RNG_FEATURE;
            key.candidate = (uint32_t)(first + i);
            d->fill(d->map, key, draw->role, l->staging + row_of(l, d->node) * (size_t)i);
        }
        write_rows(l, d->node, l->staging, count, false);
    }
    if (l->in.text) text_inputs_write(l->plan, &l->text, text);
    write_rows(l, l->in.latents, latents, count, false);
    return plan_run_forward(l->plan, err);
}

static void read_rows(LatentPass *l, Value node, float *rows, int count) {
    plan_read(l->plan, node, l->staging);
    memcpy(rows, l->staging, row_of(l, node) * (size_t)count * sizeof(float));
}

void latent_pass_features(LatentPass *l, int i, float *features, int count) {
    read_rows(l, l->feature[i], features, count);
}

int latent_pass_backward(LatentPass *l, const float *const *seeds, int count, float *gradient, Error *err) {
    for (int i = 0; i < l->n_features; i++) write_rows(l, l->seed[i], seeds[i], count, true);
    TRY(plan_run_backward(l->plan, err));
    if (l->gradient)
        read_rows(l, l->gradient, gradient, count);
    else
        memset(gradient, 0, l->row * (size_t)count * sizeof(float));
    return 0;
}
