/* Keep: losses beside the drift and their gradients, written out. See keep.h. */
#include "step/keep.h"

#include <math.h>

bool keep_needs_reference(const KeepOptions *o) { return o->feature_l2 > 0 || o->diversity > 0 || o->anchor > 0; }

static size_t width(const FeatureSet *set) { return (size_t)set->tokens * (size_t)set->dim; }

double keep_feature_l2(const FeatureSet *set, int candidates, float weight) {
    const size_t n = (size_t)candidates * width(set);
    double loss = 0;
    for (size_t k = 0; k < n; k++) {
        const double gap = (double)set->policy[k] - set->reference[k];
        loss += gap * gap / (double)n;
        set->grad[k] += (float)(2 * weight * gap / (double)n);
    }
    return loss;
}

static double distance(const float *a, const float *b, size_t n) {
    double squares = 0;
    for (size_t k = 0; k < n; k++) squares += ((double)a[k] - b[k]) * ((double)a[k] - b[k]);
    return sqrt(fmax(squares, 1e-8));
}

/* Mean over ordered pairs of two different candidates. */
static double spread(const float *x, int candidates, size_t n) {
    double sum = 0;
    for (int i = 0; i < candidates; i++)
        for (int j = 0; j < i; j++) sum += distance(x + (size_t)i * n, x + (size_t)j * n, n);
    return candidates > 1 ? 2 * sum / ((double)candidates * (candidates - 1)) : 0;
}

double keep_diversity(const FeatureSet *set, int candidates, float weight, float margin) {
    const size_t n = width(set);
    const double target = fmax(margin * spread(set->reference, candidates, n), 1e-8);
    const double lack = (target - spread(set->policy, candidates, n)) / target;
    if (lack <= 0) return 0;
    const double slope = -2 * weight * lack / target * 2 / ((double)candidates * (candidates - 1));
    for (int i = 0; i < candidates; i++)
        for (int j = 0; j < i; j++) {
            const float *a = set->policy + (size_t)i * n, *b = set->policy + (size_t)j * n;
            float *to_a = set->grad + (size_t)i * n, *to_b = set->grad + (size_t)j * n;
            const double d = distance(a, b, n);
            if (d <= 1e-4) continue; /* the floor of the distance has no slope */
            for (size_t k = 0; k < n; k++) {
                const double pull = slope * ((double)a[k] - b[k]) / d;
                to_a[k] += (float)pull;
                to_b[k] -= (float)pull;
            }
        }
    return lack * lack;
}

/* The share of the way from the reference that a candidate of score y may keep. */
static double freedom(double y, double mean, double deviation, const KeepOptions *o) {
    const double advantage = (y - mean) / deviation;
    const double q = fmax(0, fmin(advantage, o->anchor_clip)) / o->anchor_clip;
    return o->anchor_alpha * (o->anchor_min + (1 - o->anchor_min) * q);
}

double keep_anchor(const FeatureSet *latents, int candidates, const double *y, const KeepOptions *o) {
    const size_t n = width(latents);
    double mean = 0, variance = 0, loss = 0;
    for (int i = 0; i < candidates; i++) mean += y[i] / candidates;
    for (int i = 0; i < candidates; i++) variance += (y[i] - mean) * (y[i] - mean) / candidates;
    for (int i = 0; i < candidates; i++) {
        const double left = 1 - freedom(y[i], mean, sqrt(variance + 1e-6), o);
        for (size_t k = (size_t)i * n; k < (size_t)(i + 1) * n; k++) {
            const double gap = left * ((double)latents->policy[k] - latents->reference[k]);
            loss += gap * gap / ((double)n * candidates);
            latents->grad[k] += (float)(2 * o->anchor * gap / ((double)n * candidates));
        }
    }
    return loss;
}
