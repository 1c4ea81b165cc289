/* Losses: joins the drift of several feature keys and the anchor into the gradient with respect to all features.
 *
 *     loss = share * sum over keys (preference + lambda_ref * reference) + latent_l2 * mean((x0 - base x0)^2)
 *
 * In the update: feature -> drift -> gradient. */
#include "step/losses.h"

#include <math.h>

#include "step/drift.h"

static void anchor_gradient(float weight, const Candidates *c, FeatureSet *latents, StepStats *stats) {
    size_t n = (size_t)c->count * (size_t)latents->tokens * (size_t)latents->dim;
    float slope = 2 * weight / (float)n;
    double squares = 0;
    for (size_t j = 0; j < n; j++) {
        float gap = latents->policy[j] - latents->reference[j];
        squares += (double)gap * gap;
        latents->grad[j] = slope * gap;
    }
    stats->latent_distance += sqrt(squares / (double)n);
}

int losses_gradient(const FeatureMaps *maps, const LossOptions *o, Candidates *c, StepStats *stats, Error *err) {
    int keys = c->features - feature_maps_is_anchor(maps, c->features - 1); /* the anchor comes last */
    float share = o->mean_keys ? 1.0f / (float)keys : 1;
    for (int i = 0; i < keys; i++) {
        FeatureSet *f = &c->feature[i];
        DriftResult pref = {0}, ref = {0};
        int code = drift_feature(f, c->count, &c->selection, &o->drift, o->threads, &pref, &ref, err);
        if (code < 0) return fail_in(err, "feature %s", feature_maps_key(maps, i)), code;
        size_t n = (size_t)c->count * (size_t)f->tokens * (size_t)f->dim;
        for (size_t j = 0; share != 1 && j < n; j++) f->grad[j] *= share;
        stats->pref_loss += share * pref.loss;
        stats->ref_loss += share * ref.loss;
        stats->feature_scale += pref.scale / keys;
    }
    if (keys < c->features) anchor_gradient(o->drift.latent_l2, c, &c->feature[keys], stats);
    return 0;
}
