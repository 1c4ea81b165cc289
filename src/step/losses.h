/* Losses: what one prompt's candidates are learned from: the drift of every feature key, or another method on the
 * latents; and what holds the policy near its base. Fills the gradient of every feature set. */
#ifndef DRPO_STEP_LOSSES_H
#define DRPO_STEP_LOSSES_H

#include "step/candidates.h"
#include "step/feature/feature.h"

typedef struct LossOptions {
    DriftOptions drift;
    LearnOptions learn;
    bool mean_keys; /* average over feature keys instead of their sum */
    int threads;
    double vgg_threshold; /* method/vggflow.c */
    bool scenes;          /* nobody was chosen: the reference, which is given, attracts alone */
} LossOptions;

/* Whether the frozen reference, or the latents as a feature, have a part in the loss. */
bool losses_need_reference(const DriftOptions *drift, const LearnOptions *learn);
bool losses_need_latents(const DriftOptions *drift, const LearnOptions *learn);

/* Whether it matters which candidates are positives and negatives. */
bool losses_rank(const LearnOptions *learn);

/* feature[].grad from feature[].policy and .reference of the selected candidates; losses are added to `stats`. */
int losses_gradient(const FeatureMaps *maps, const LossOptions *o, Candidates *c, StepStats *stats, Error *err);

#endif
