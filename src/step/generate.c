/* Generate: runs the generator over a prompt's candidates, chunk by chunk, forward and back.
 *
 * The drift's gradient with respect to features is closed form, so nothing has to stay in memory while pictures are
 * decoded and scored: the gradient stage runs each chunk forward again and carries the known gradient back through
 * features, x0 and UNet. Dropout acts there and nowhere else: candidates are drawn and judged by the whole adapter, as
 * they will be when it is used; what they taught then goes back through a part of it. */
#include "step/generate.h"

typedef struct Chunk {
    int first, count;
} Chunk;

static Chunk chunk_at(const GeneratorPass *pass, const Candidates *c, int first) {
    int left = c->count - first, batch = generator_pass_batch(pass);
    return (Chunk){first, left < batch ? left : batch};
}

static int forward(GeneratorPass *pass, const float *text, const Candidates *c, Chunk at, Error *err) {
    return generator_pass_forward(pass, text, c->noise + (size_t)at.first * c->latent_count, at.count, err);
}

/* The forward half of the gradient, with layers of the adapter that drop a share of their inputs if it is to have any.
 */
static int forward_dropped(GeneratorPass *pass, const float *text, const Candidates *c, Chunk at, Error *err) {
    RngKey key = c->draw;
    key.stream = RNG_DROPOUT;
    key.candidate = (uint32_t)at.first;
    const float *noise = c->noise + (size_t)at.first * c->latent_count;
    return generator_pass_forward_dropped(pass, text, noise, &key, at.count, err);
}

static float *feature_rows(const FeatureSet *f, float *values, int first) {
    return values + (size_t)first * (size_t)f->tokens * (size_t)f->dim;
}

int generate_candidates(GeneratorPass *policy, const float *text, Candidates *c, Error *err) {
    for (int first = 0; first < c->count; first += generator_pass_batch(policy)) {
        Chunk at = chunk_at(policy, c, first);
        TRY(forward(policy, text, c, at, err));
        generator_pass_latents(policy, c->latents + (size_t)first * c->latent_count, at.count);
        for (int i = 0; i < c->behind; i++) {
            const FeatureSet *f = candidates_behind(c, i);
            generator_pass_features(policy, i, feature_rows(f, f->policy, first), at.count);
        }
    }
    return 0;
}

int generate_reference(GeneratorPass *reference, const float *text, Candidates *c, Error *err) {
    for (int first = 0; first < c->count; first += generator_pass_batch(reference)) {
        Chunk at = chunk_at(reference, c, first);
        TRY(forward(reference, text, c, at, err));
        if (c->base) generator_pass_latents(reference, c->base + (size_t)first * c->latent_count, at.count);
        for (int i = 0; i < c->behind; i++) {
            const FeatureSet *f = candidates_behind(c, i);
            generator_pass_features(reference, i, feature_rows(f, f->reference, first), at.count);
        }
    }
    return 0;
}

int generate_gradient(GeneratorPass *policy, const float *text, Candidates *c, bool held, float *grad, Error *err) {
    const float *seeds[MAX_FEATURE_KEYS];
    const bool again = !held || generator_pass_drops(policy);
    for (int first = 0; first < c->count; first += generator_pass_batch(policy)) {
        Chunk at = chunk_at(policy, c, first);
        if (again) TRY(forward_dropped(policy, text, c, at, err));
        for (int i = 0; i < c->behind; i++) {
            const FeatureSet *f = candidates_behind(c, i);
            seeds[i] = feature_rows(f, f->grad, first);
        }
        TRY(generator_pass_backward(policy, seeds, at.count, grad, err));
    }
    return 0;
}
