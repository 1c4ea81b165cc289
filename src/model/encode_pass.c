/* Encode pass: builds, plans and runs the VAE encoder. Given pictures enter the update through it. */
#include "model/encode_pass.h"

#include <math.h>
#include <stdlib.h>

#include "engine/plan.h"

struct EncodePass {
    Arena *arena;
    Plan *plan;
    Value image, moments;
    size_t count;  /* C*h*w */
    float *values; /* [2,C,h,w]: mean, logvar; then noise [C,h,w] */
    float scaling, shift;
};

static int build(EncodePass *e, Pipeline *p, Backend *b, int height, int width, Error *err) {
    e->arena = arena_new();
    Graph *g = e->arena ? graph_new(e->arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "encoder: out of memory");
    Build layers = {.g = g, .weights = p->vae_weights};
    e->image = input(g, "image", DT_F32, shape4(1, p->vae.in_channels, height * p->factor, width * p->factor));
    e->moments = output(g, vae_encode(&layers, &p->vae, e->image), "moments");
    TRY(graph_check(g, err));
    TRY(fuse_graph(g, err));
    TRY(plan_new(g, b, &e->plan, err));
    e->count = (size_t)p->vae.latent_channels * (size_t)height * (size_t)width;
    e->scaling = p->vae.scaling_factor;
    e->shift = p->vae.shift_factor;
    e->values = malloc(3 * e->count * sizeof *e->values);
    return e->values ? 0 : fail(err, DRPO_E_MEMORY, "encoder: out of memory");
}

int encode_pass_new(Pipeline *p, Backend *b, int height, int width, EncodePass **out, Error *err) {
    EncodePass *e = calloc(1, sizeof *e);
    if (!e) return fail(err, DRPO_E_MEMORY, "encoder: out of memory");
    int code = build(e, p, b, height, width, err);
    if (code < 0) {
        encode_pass_free(e);
        return code;
    }
    *out = e;
    return 0;
}

void encode_pass_free(EncodePass *e) {
    if (!e) return;
    plan_free(e->plan);
    arena_free(e->arena);
    free(e->values);
    free(e);
}

size_t encode_pass_bytes(const EncodePass *e) { return plan_peak(e->plan); }
int encode_pass_bind(EncodePass *e, void *memory, Error *err) { return plan_bind(e->plan, memory, err); }

int encode_pass_run(EncodePass *e, const float *image, const RngKey *sample, float *latents, Error *err) {
    const float *mean = e->values, *logvar = mean + e->count;
    float *noise = e->values + 2 * e->count;
    plan_write(e->plan, e->image, image);
    TRY(plan_run(e->plan, err));
    plan_read(e->plan, e->moments, e->values);
    if (sample) rng_normal(*sample, noise, e->count);
    for (size_t i = 0; i < e->count; i++) {
        /* diffusers bounds the logarithm so */
        const float spread = sample ? expf(0.5f * fminf(fmaxf(logvar[i], -30), 20)) * noise[i] : 0;
        latents[i] = (mean[i] + spread - e->shift) * e->scaling;
    }
    return 0;
}
