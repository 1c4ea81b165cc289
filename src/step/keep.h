/* Keep: terms that hold the policy near its base, or its candidates apart. Each returns its loss (before its weight)
 * and adds weight * d(loss)/d(policy features) to the set's gradient.
 *
 *     feature_l2    mean (x - ref)^2
 *     diversity     max(0, (t - g) / t)^2,  g: mean distance of two candidates, t = margin * the same of the reference
 *     anchor        mean (x0 - t_i)^2,  t_i = ref + alpha w_i (stopgrad(x0) - ref),  w_i = min + (1 - min) q_i,
 *                   q_i = clamp(a_i, 0, clip) / clip,  a = (y - mean y) / sqrt(var y + 1e-6): the better, the freer
 *
 * In the update: beside drift. */
#ifndef DRPO_STEP_KEEP_H
#define DRPO_STEP_KEEP_H

#include "step/step_types.h"

bool keep_needs_reference(const KeepOptions *o);
double keep_feature_l2(const FeatureSet *set, int candidates, float weight);
double keep_diversity(const FeatureSet *set, int candidates, float weight, float margin);
/* `latents`: the clean latents as a feature; y [candidates]: scores. */
double keep_anchor(const FeatureSet *latents, int candidates, const double *y, const KeepOptions *o);

#endif
