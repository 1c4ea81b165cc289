/* Losses: joins the drift of several feature keys and what acts on the latents into the gradient with respect to all
 * features.
 *
 *     loss = share * sum over keys (preference + lambda_ref * reference + feature_l2 * ... + diversity * ...)
 *            + latent_l2 * mean((x0 - base x0)^2) + anchor * ...
 *
 * Soft objectives (drift_soft.h) take the place of preference and reference; another method (method/) that of the whole
 * first line. In the update: feature -> drift -> gradient. */
#include "step/losses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift.h"
#include "step/drift_soft.h"
#include "step/keep.h"
#include "step/method/method.h"

bool losses_need_reference(const DriftOptions *drift, const LearnOptions *learn) {
    const bool draft = learn->method.kind == METHOD_DRAFT; /* the reward alone */
    if (draft) return drift->latent_l2 > 0 || learn->keep.anchor > 0;
    if (learn->method.kind != METHOD_DRPO || drift->latent_l2 > 0 || keep_needs_reference(&learn->keep)) return true;
    const Objective objective = learn->soft.objective;
    return objective == OBJECTIVE_BINARY ? drift->lambda_ref > 0 : drift_soft_needs_reference(objective);
}

bool losses_need_latents(const DriftOptions *drift, const LearnOptions *learn) {
    return learn->method.kind != METHOD_DRPO || drift->latent_l2 > 0 || learn->keep.anchor > 0;
}

bool losses_rank(const LearnOptions *learn) {
    const bool drift = learn->method.kind == METHOD_DRPO && learn->soft.objective == OBJECTIVE_BINARY;
    return drift || learn->method.kind == METHOD_DPO;
}

/* The scores that soft weights are made of: an ensemble is one of z-scores already. */
static void standard_scores(const Candidates *c, double *y) {
    double mean = 0, variance = 0;
    for (int i = 0; i < c->count; i++) mean += c->score[i] / c->count;
    for (int i = 0; i < c->count; i++) variance += (c->score[i] - mean) * (c->score[i] - mean) / c->count;
    const double deviation = fmax(sqrt(variance), 1e-6);
    for (int i = 0; i < c->count; i++) y[i] = c->rewards > 1 ? c->score[i] : (c->score[i] - mean) / deviation;
}

static void add_latent_l2(float weight, const Candidates *c, FeatureSet *latents, StepStats *stats) {
    size_t n = (size_t)c->count * (size_t)latents->tokens * (size_t)latents->dim;
    float slope = 2 * weight / (float)n;
    double squares = 0;
    for (size_t j = 0; j < n; j++) {
        float gap = latents->policy[j] - latents->reference[j];
        squares += (double)gap * gap;
        latents->grad[j] += slope * gap;
    }
    stats->latent_distance += sqrt(squares / (double)n);
}

/* Terms that are means over all candidates become means over those of the pools that learn. */
static void leave_moving(const Candidates *c, FeatureSet *latents) {
    const size_t width = (size_t)latents->tokens * (size_t)latents->dim;
    const float factor = (float)c->count / (float)c->n_moving;
    bool moves[MAX_CANDIDATES] = {false};
    for (int i = 0; i < c->n_moving; i++) moves[c->moving[i]] = true;
    for (size_t j = 0; j < (size_t)c->count * width; j++) latents->grad[j] *= moves[j / width] ? factor : 0;
}

/* The reference term alone: attracted by the reference, each sample repelled by the others. */
static int reference_gradient(FeatureSet *f, int count, const DriftOptions *o, int threads, DriftResult *ref,
                              Error *err) {
    const size_t rows = (size_t)count * (size_t)f->tokens, n = rows * (size_t)f->dim;
    const DriftInput in = {.x = f->policy,
                           .pos = f->reference,
                           .neg = f->policy,
                           .n = rows,
                           .p = rows,
                           .m = rows,
                           .d = (size_t)f->dim,
                           .w_pos = o->w_ref,
                           .w_neg = o->w_ref_neg,
                           .radii = o->radii,
                           .n_radii = o->n_radii,
                           .kernel = o->kernel,
                           .mask_negative_self = true,
                           .mask_positive_self = o->mask_reference};
    if (o->lambda_ref > 0) TRY(drift_field(&in, threads, NULL, f->grad, ref, err));
    for (size_t j = 0; j < n; j++) f->grad[j] = o->lambda_ref > 0 ? o->lambda_ref * f->grad[j] : 0;
    return 0;
}

/* One feature key: drift, then what is asked for beside it. */
static int key_gradient(const LossOptions *o, const Candidates *c, int count, const double *y, FeatureSet *f,
                        float share, StepStats *stats, double *scale, Error *err) {
    const KeepOptions *keep = &o->learn.keep;
    DriftResult pref = {0}, ref = {0};
    if (o->scenes)
        TRY(reference_gradient(f, count, &o->drift, o->threads, &ref, err));
    else if (o->learn.soft.objective == OBJECTIVE_BINARY)
        TRY(drift_feature(f, count, &c->selection, &o->drift, o->threads, &pref, &ref, err));
    else
        TRY(drift_soft(f, count, y, &o->learn.soft, &o->drift, o->threads, &pref, err));
    if (keep->feature_l2 > 0) keep_feature_l2(f, count, keep->feature_l2);
    if (keep->diversity > 0) keep_diversity(f, count, keep->diversity, keep->diversity_margin);
    size_t n = (size_t)count * (size_t)f->tokens * (size_t)f->dim;
    for (size_t j = 0; share != 1 && j < n; j++) f->grad[j] *= share;
    stats->pref_loss += share * pref.loss;
    stats->ref_loss += share * ref.loss;
    *scale += o->scenes ? ref.scale : pref.scale;
    return 0;
}

static void copy_rows(const float *from, const int *row, int n, size_t width, float *to) {
    for (int i = 0; i < n; i++) memcpy(to + (size_t)i * width, from + (size_t)row[i] * width, width * sizeof *to);
}

/* Only the moving candidates are samples; all of them may be anchors. */
static int subset_gradient(const LossOptions *o, const Candidates *c, const double *y, FeatureSet *f, float share,
                           StepStats *stats, double *scale, Error *err) {
    const size_t width = (size_t)f->tokens * (size_t)f->dim, n = (size_t)c->n_moving * width;
    float *rows = malloc(3 * n * sizeof *rows);
    if (!rows) return fail(err, DRPO_E_MEMORY, "out of memory");
    FeatureSet some = *f;
    some.policy = rows, some.reference = rows + n, some.grad = rows + 2 * n;
    some.anchors = f->anchors ? f->anchors : f->policy;
    some.anchor_rows = c->count;
    copy_rows(f->policy, c->moving, c->n_moving, width, some.policy);
    copy_rows(f->reference, c->moving, c->n_moving, width, some.reference);
    const int code = key_gradient(o, c, c->n_moving, y, &some, share, stats, scale, err);
    memset(f->grad, 0, (size_t)c->count * width * sizeof *f->grad);
    for (int i = 0; code >= 0 && i < c->n_moving; i++)
        memcpy(f->grad + (size_t)c->moving[i] * width, some.grad + (size_t)i * width, width * sizeof *rows);
    free(rows);
    return code;
}

static int drift_gradient(const FeatureMaps *maps, const LossOptions *o, Candidates *c, const double *y, int keys,
                          StepStats *stats, Error *err) {
    float share = o->mean_keys ? 1.0f / (float)keys : 1;
    double scale = 0;
    for (int i = 0; i < keys; i++) {
        FeatureSet *f = &c->feature[i];
        int code = c->n_moving ? subset_gradient(o, c, y, f, share, stats, &scale, err)
                               : key_gradient(o, c, c->count, y, f, share, stats, &scale, err);
        if (code < 0) return fail_in(err, "feature %s", feature_maps_key(maps, i)), code;
    }
    stats->feature_scale += keys ? scale / keys : 0;
    return 0;
}

int losses_gradient(const FeatureMaps *maps, const LossOptions *o, Candidates *c, StepStats *stats, Error *err) {
    double y[MAX_CANDIDATES];
    int keys = c->features - feature_maps_is_anchor(maps, c->features - 1); /* the anchor comes last */
    standard_scores(c, y);
    TRY(drift_gradient(maps, o, c, y, keys, stats, err));
    if (keys == c->features) return 0;
    FeatureSet *latents = &c->feature[keys];
    float weight = o->drift.latent_l2;
    memset(latents->grad, 0, (size_t)c->count * (size_t)latents->tokens * (size_t)latents->dim * sizeof(float));
    if (o->learn.method.kind != METHOD_DRPO) {
        double loss = 0;
        bool anchored = false;
        MethodInput in = {.options = &o->learn.method,
                          .count = c->count,
                          .width = c->latent_count,
                          .noise = c->noise,
                          .score = c->score,
                          .selection = &c->selection,
                          .draw = c->draw,
                          .latents = latents,
                          .reward = c->reward,
                          .reward_gradient = c->reward_gradient,
                          .vgg_threshold = o->vgg_threshold,
                          .norm = c->norm,
                          .anchor_l2 = weight};
        TRY(method_gradient(&in, &loss, &anchored, err));
        stats->pref_loss += loss;
        if (anchored) weight = 0;
    }
    if (weight > 0) add_latent_l2(weight, c, latents, stats);
    if (o->learn.keep.anchor > 0) keep_anchor(latents, c->count, y, &o->learn.keep);
    if (c->rollout.rounds && c->n_moving) leave_moving(c, latents);
    return 0;
}
