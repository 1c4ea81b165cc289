/* Soft drift: variants that weigh candidates by their scores instead of splitting them into best and worst.
 *
 * y_i: score of candidate i. With weights u_i = y_i/alpha - max, v_i = -y_i/alpha - max, clipped to +-clip, and kernel
 * logits k:
 *
 *     m+_i = sum_j softmax_j(k_ij + u_j) x_j,   m-_i with v,   m_i with neither,   r_i = sum_j softmax_j(k(x_i, ref_j))
 * ref_j awr: F = m+ - x + r - m       awr-contrast: F = m+ - x + r - m-       awr-topk: m+ and m- over the best and
 * worst T awr-hard, awr-advsign: the field of drift.h with weights w T softmax(u), w T softmax(v); no reference
 *
 * Forces are divided by their RMS and summed over radii; loss and gradient as in drift.h. Tokens of one candidate share
 * its score. */
#ifndef DRPO_STEP_DRIFT_SOFT_H
#define DRPO_STEP_DRIFT_SOFT_H

#include "step/drift.h"

/* Weights of candidates as logarithms; -INFINITY: takes no part. */
typedef struct SoftWeights {
    double up[MAX_CANDIDATES], down[MAX_CANDIDATES]; /* as attractors, as repellers */
    int n_up, n_down;                                /* that take part */
} SoftWeights;

/* False for BINARY and for objectives that look at no reference. */
bool drift_soft_needs_reference(Objective o);
/* y [candidates]. */
void drift_soft_weights(const SoftOptions *o, const double *y, int candidates, SoftWeights *out);
/* set->grad = weight * d(loss)/d(policy features) for one feature key of one prompt. */
int drift_soft(const FeatureSet *set, int candidates, const double *y, const SoftOptions *o, const DriftOptions *drift,
               int threads, DriftResult *result, Error *err);

#endif
