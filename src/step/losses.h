/* Losses: what one prompt's candidates are learned from: the drift of every feature key and, with --latent-l2, the
 * anchor. Fills the gradient of every feature set. */
#ifndef DRPO_STEP_LOSSES_H
#define DRPO_STEP_LOSSES_H

#include "step/candidates.h"
#include "step/feature/feature.h"

typedef struct LossOptions {
    DriftOptions drift;
    bool mean_keys; /* average over feature keys instead of their sum */
    int threads;
} LossOptions;

/* feature[].grad from feature[].policy and .reference of the selected candidates; losses are added to `stats`. */
int losses_gradient(const FeatureMaps *maps, const LossOptions *o, Candidates *c, StepStats *stats, Error *err);

#endif
