/* Part: what training the autoencoder and training the text encoder have in common. See part.h. */
#include "pretrain/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/autodiff.h"
#include "model/full_weights.h"
#include "model/random_start.h"

enum { WARMUP = 50 };

static int open_all(Part *p, const Weights *like, Error *err) {
    const PartOptions *o = &p->options;
    TRY(full_of(like, &p->weights, err));
    random_start(p->weights, o->seed);
    p->backend = backend_cpu_new(o->threads, err);
    if (!p->backend) return err->code;
    p->grad = calloc(p->weights->count, sizeof *p->grad);
    if (!p->grad) return fail(err, DRPO_E_MEMORY, "out of memory for a gradient");
    return optimizer_allocate(&p->optimizer, p->weights->count, err);
}

int part_open(Part *p, const Weights *like, const PartOptions *o, Error *err) {
    *p = (Part){.options = *o,
                .optimizer = {.lr = o->lr,
                              .beta1 = .9f,
                              .beta2 = .98f,
                              .eps = 1e-8f,
                              .weight_decay = 1e-3f,
                              .clip = 1,
                              .schedule = SCHEDULE_COSINE,
                              .warmup = WARMUP,
                              .total = o->steps}};
    const int code = open_all(p, like, err);
    if (code < 0) part_close(p);
    return code;
}

void part_close(Part *p) {
    optimizer_free(&p->optimizer);
    lora_free(p->weights);
    if (p->backend) backend_free(p->backend);
    free(p->grad);
    *p = (Part){0};
}

/* ---- passes ---- */
int part_pass_begin(const Part *p, PartPass *pass, Build *b, Error *err) {
    *pass = (PartPass){.arena = arena_new()};
    pass->graph = pass->arena ? graph_new(pass->arena) : NULL;
    if (!pass->graph) return fail(err, DRPO_E_MEMORY, "out of memory for a network");
    *b = (Build){.g = pass->graph, .weights = p->weights->full};
    return 0;
}

static int append_backward(const Part *p, PartPass *pass, bool by_input, Error *err) {
    const int leaves = lora_leaves(p->weights), n = leaves + by_input;
    Value *leaf = arena_alloc(pass->arena, (size_t)n * sizeof(Value));
    pass->leaf_grad = arena_alloc(pass->arena, (size_t)n * sizeof(Value));
    if (!leaf || !pass->leaf_grad) return fail(err, DRPO_E_MEMORY, "out of memory for a gradient");
    for (int i = 0; i < leaves; i++) leaf[i] = param(pass->graph, lora_leaf(p->weights, i).param);
    if (by_input) leaf[leaves] = pass->in;
    pass->seed = input(pass->graph, "seed", DT_F32, pass->out->shape);
    TRY(graph_backward(pass->graph, &pass->out, &pass->seed, 1, leaf, n, pass->leaf_grad, err));
    pass->in_grad = by_input ? pass->leaf_grad[leaves] : NULL;
    return 0;
}

static size_t largest(const Adapter *a) {
    size_t most = 0;
    for (int i = 0; i < lora_leaves(a); i++) {
        const size_t n = (size_t)shape_count(lora_leaf(a, i).param->shape);
        most = n > most ? n : most;
    }
    return most;
}

int part_pass_plan(const Part *p, PartPass *pass, bool by_input, Error *err) {
    if (pass->out) pass->out = output(pass->graph, pass->out, "out");
    TRY(graph_check(pass->graph, err));
    TRY(fuse_graph(pass->graph, err));
    TRY(append_backward(p, pass, by_input, err));
    TRY(plan_new(pass->graph, p->backend, &pass->plan, err));
    pass->staging = malloc(largest(p->weights) * sizeof *pass->staging);
    if (!pass->staging) return fail(err, DRPO_E_MEMORY, "out of memory for a gradient");
    return plan_bind(pass->plan, NULL, err);
}

void part_pass_close(PartPass *pass) {
    plan_free(pass->plan);
    arena_free(pass->arena);
    free(pass->staging);
    *pass = (PartPass){0};
}

int part_forward(PartPass *pass, const void *in, float *out, Error *err) {
    plan_write(pass->plan, pass->in, in);
    TRY(plan_run_forward(pass->plan, err));
    plan_read(pass->plan, pass->out, out);
    return 0;
}

int part_backward(Part *p, PartPass *pass, const float *slope, float *in_slope, Error *err) {
    plan_write(pass->plan, pass->seed, slope);
    TRY(plan_run_backward(pass->plan, err));
    for (int i = 0; i < lora_leaves(p->weights); i++) {
        if (!pass->leaf_grad[i]) continue;
        float *to = p->grad + lora_leaf(p->weights, i).offset;
        plan_read(pass->plan, pass->leaf_grad[i], pass->staging);
        for (int64_t k = 0; k < shape_count(pass->leaf_grad[i]->shape); k++) to[k] += pass->staging[k];
    }
    if (pass->in_grad) plan_read(pass->plan, pass->in_grad, in_slope);
    return 0;
}

int part_update(Part *p, Error *err) {
    TRY(optimizer_update(&p->optimizer, p->weights->values, p->grad, NULL, err));
    memset(p->grad, 0, p->weights->count * sizeof *p->grad);
    for (int i = 0; p->backend->refresh && i < lora_leaves(p->weights); i++)
        p->backend->refresh(p->backend, lora_leaf(p->weights, i).param);
    return 0;
}

void part_progress(const Job *job, const char *what, const Part *p, double loss, double seconds) {
    const drpo_callbacks *c = job->callbacks;
    const long done = p->optimizer.step;
    const double each = seconds / (double)done, left = each * (double)(p->options.steps - done);
    char line[128];
    snprintf(line, sizeof line, "%s %ld/%d  loss %.4f  %.1f/s  %d:%02d left", what, done, p->options.steps, loss,
             p->options.batch / each, (int)left / 60, (int)left % 60);
    const drpo_progress progress = {.step = (int)done,
                                    .steps = p->options.steps,
                                    .images_per_second = p->options.batch / each,
                                    .seconds_left = left,
                                    .line = line};
    if (c && c->progress) c->progress(c->user, &progress);
}
