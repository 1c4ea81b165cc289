/* Look: runs maps aside over a prompt's candidates, a few at a time. See look.h. */
#include "step/look.h"

#include <stdlib.h>

enum { ROLE_POLICY, ROLE_REFERENCE, ROLE_ANCHOR };

static FeatureSet *aside_set(Candidates *c, int i) { return &c->feature[c->behind - 1 + i]; }

static float *rows(const FeatureSet *f, float *values, int first) {
    return values + (size_t)first * (size_t)f->tokens * (size_t)f->dim;
}

static int chunk(const LatentPass *aside, const Candidates *c, int first) {
    const int left = c->count - first, batch = latent_pass_batch(aside);
    return left < batch ? left : batch;
}

static int look(LatentPass *aside, const float *text, int role, const float *latents, Candidates *c, Error *err) {
    const LatentDraw draw = {c->draw, role};
    for (int first = 0; first < c->count; first += latent_pass_batch(aside)) {
        const int count = chunk(aside, c, first);
        TRY(latent_pass_forward(aside, text, &draw, first, latents + (size_t)first * c->latent_count, count, err));
        for (int i = 0; i < c->features - c->behind; i++) {
            const FeatureSet *f = aside_set(c, i);
            float *to = role == ROLE_POLICY ? f->policy : role == ROLE_REFERENCE ? f->reference : f->anchors;
            latent_pass_features(aside, i, rows(f, to, first), count);
        }
    }
    return 0;
}

int look_at_candidates(LatentPass *aside, const float *text, Candidates *c, Error *err) {
    TRY(look(aside, text, ROLE_POLICY, c->latents, c, err));
    return aside_set(c, 0)->anchors ? look(aside, text, ROLE_ANCHOR, c->latents, c, err) : 0;
}

int look_at_reference(LatentPass *aside, const float *text, Candidates *c, Error *err) {
    return look(aside, text, ROLE_REFERENCE, c->base, c, err);
}

/* [count,C,h*w] is added to [count,h*w,C]. */
static void add_to_anchor(const Candidates *c, const float *gradient, int first, int count) {
    const FeatureSet *anchor = &c->feature[c->features - 1];
    const size_t positions = (size_t)anchor->tokens, channels = (size_t)anchor->dim;
    float *to = rows(anchor, anchor->grad, first);
    for (size_t i = 0; i < (size_t)count; i++)
        for (size_t k = 0; k < channels; k++)
            for (size_t j = 0; j < positions; j++)
                to[(i * positions + j) * channels + k] += gradient[(i * channels + k) * positions + j];
}

int look_back(LatentPass *aside, const float *text, Candidates *c, Error *err) {
    const LatentDraw draw = {c->draw, ROLE_POLICY};
    const float *seeds[MAX_FEATURE_KEYS];
    float *gradient = malloc((size_t)latent_pass_batch(aside) * c->latent_count * sizeof *gradient);
    int code = gradient ? 0 : fail(err, DRPO_E_MEMORY, "features: out of memory");
    for (int first = 0; code >= 0 && first < c->count; first += latent_pass_batch(aside)) {
        const int count = chunk(aside, c, first);
        for (int i = 0; i < c->features - c->behind; i++)
            seeds[i] = rows(aside_set(c, i), aside_set(c, i)->grad, first);
        code = latent_pass_forward(aside, text, &draw, first, c->latents + (size_t)first * c->latent_count, count, err);
        if (code >= 0) code = latent_pass_backward(aside, seeds, count, gradient, err);
        if (code >= 0) add_to_anchor(c, gradient, first, count);
    }
    free(gradient);
    return code < 0 ? code : 0;
}
