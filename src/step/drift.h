/* Drift: from features of candidates, anchors and reference to the regression target's gradient.
 *
 * For one set X [N,D] with attractors P [p,D] and repellers M [m,D] (spec: kernel, double softmax, cross-mass
 * coefficients, unit-RMS force per radius): force F, loss = mean(F^2), and in closed form d(loss)/dX = -2 F / (N D s).
 * Everything is computed in float32 storage with float64 accumulation of Gram entries, so that near-duplicates at small
 * radii keep their distances. */
#ifndef DRPO_STEP_DRIFT_H
#define DRPO_STEP_DRIFT_H

#include "step/step_types.h"

typedef struct DriftInput {
    const float *x, *pos, *neg; /* [n,d], [p,d], [m,d], row-major */
    size_t n, p, m, d;
    float w_pos, w_neg;
    const float *radii;
    int n_radii, kernel;
    bool mask_negative_self; /* neg is x itself: mask its diagonal (m == n) */
    bool mask_positive_self; /* pos[i] is x[i]'s own reference: mask it too (p == n) */
} DriftInput;

typedef struct DriftResult {
    double loss, scale, scale_per_dim; /* mean(F^2), kernel scale, coordinate scale s */
    double rms[MAX_RADII];
} DriftResult;

/* force, grad [n,d] may be NULL. Row blocks are streamed: memory O(n d + block (n+m+p)). Results do not depend on
 * `threads`. Errors: p or m zero, mask with m != n, radius <= 0, unknown kernel (DRPO_E_USAGE); NaN or infinity in any
 * input (DRPO_E_NUMERIC). */
int drift_field(const DriftInput *in, int threads, float *force, float *grad, DriftResult *result, Error *err);

/* Both terms for one feature key of one prompt: set->grad = pref + lambda_ref * ref. Positives and negatives are rows
 * of set->policy, token by token, of the selected candidates. pref/ref may be NULL. */
int drift_feature(const FeatureSet *set, int candidates, const Selection *sel, const DriftOptions *opt, int threads,
                  DriftResult *pref, DriftResult *ref, Error *err);

#endif
