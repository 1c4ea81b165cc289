/* Candidates: one allocation that every stage of an update writes its results into. */
#include "step/candidates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Hands out 64-byte aligned parts of a block; with base NULL it only counts. */
typedef struct Parts {
    uint8_t *base;
    size_t used;
} Parts;

static void *take(Parts *p, size_t bytes) {
    void *at = p->base ? p->base + p->used : NULL;
    p->used += (bytes + 63) & ~(size_t)63;
    return at;
}

static void lay_out(Candidates *c, const CandidatePasses *passes, Parts *p) {
    size_t k = (size_t)c->count;
    c->noise = take(p, k * c->latent_count * sizeof(float));
    c->latents = take(p, k * c->latent_count * sizeof(float));
    if (c->features > c->behind) c->base = take(p, k * c->latent_count * sizeof(float));
    c->rgb = take(p, k * (size_t)c->height * (size_t)c->width * 3);
    c->raw = take(p, MAX_REWARDS * k * sizeof(float));
    c->score = take(p, k * sizeof(double));
    if (passes->differentiates) {
        c->reward = take(p, k * sizeof(double));
        c->norm = take(p, k * sizeof(double));
        c->reward_gradient = take(p, k * c->latent_count * sizeof(float));
    }
    Rollout *r = &c->rollout;
    const size_t all = k * (size_t)r->rounds;
    r->noise = take(p, all * c->latent_count * sizeof(float));
    r->raw = take(p, MAX_REWARDS * all * sizeof(float));
    r->score = take(p, all * sizeof(double));
    for (int i = 0; i < c->features; i++) {
        FeatureSet *f = &c->feature[i];
        size_t bytes = k * (size_t)f->tokens * (size_t)f->dim * sizeof(float);
        f->policy = take(p, bytes);
        f->reference = take(p, bytes);
        f->grad = take(p, bytes);
        if (passes->redraws && i >= c->behind - 1 && i < c->features - 1) f->anchors = take(p, bytes);
    }
}

static int count_features(Candidates *c, const CandidatePasses *passes, Error *err) {
    int n = 0, tokens, dim;
    while (generator_pass_feature(passes->policy, n, &tokens, &dim) == 0) n++;
    c->behind = c->features = n;
    while (passes->aside && latent_pass_feature(passes->aside, c->features - n, &tokens, &dim) == 0) c->features++;
    if (c->features > MAX_FEATURE_KEYS)
        return fail(err, DRPO_E_USAGE, "--features: %d keys; at most %d", c->features, MAX_FEATURE_KEYS);
    for (int i = 0; i < n; i++) {
        FeatureSet *f = candidates_behind(c, i);
        generator_pass_feature(passes->policy, i, &f->tokens, &f->dim);
    }
    for (int i = 0; i < c->features - n; i++) {
        FeatureSet *f = &c->feature[n - 1 + i];
        latent_pass_feature(passes->aside, i, &f->tokens, &f->dim);
    }
    return 0;
}

FeatureSet *candidates_behind(Candidates *c, int i) { return &c->feature[i == c->behind - 1 ? c->features - 1 : i]; }

int candidates_allocate(Candidates *c, int count, int rounds, size_t latent_count, int height, int width,
                        const CandidatePasses *passes, Error *err) {
    *c = (Candidates){.count = count,
                      .latent_count = latent_count,
                      .height = height,
                      .width = width,
                      .rollout = {.rounds = rounds, .width = count}};
    TRY(count_features(c, passes, err));
    Parts parts = {0};
    lay_out(c, passes, &parts);
    c->bytes = parts.used;
    c->block = aligned_alloc(64, c->bytes);
    if (!c->block) return fail(err, DRPO_E_MEMORY, "cannot allocate %zu MiB for %d candidates", c->bytes >> 20, count);
    memset(c->block, 0, c->bytes);
    parts = (Parts){.base = c->block};
    lay_out(c, passes, &parts);
    return 0;
}

void candidates_free(Candidates *c) {
    free(c->block);
    free(c->data);
    memset(c, 0, sizeof *c);
}

double candidates_diversity(const Candidates *c) {
    double sum = 0;
    int pairs = 0;
    for (int i = 0; i < c->count; i++)
        for (int j = 0; j < i; j++) {
            const float *a = c->latents + (size_t)i * c->latent_count, *b = c->latents + (size_t)j * c->latent_count;
            float squares = 0;
            for (size_t k = 0; k < c->latent_count; k++) squares += (a[k] - b[k]) * (a[k] - b[k]);
            sum += sqrt(squares / (double)c->latent_count);
            pairs++;
        }
    return pairs ? sum / pairs : 0;
}
