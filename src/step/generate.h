/* Generate: noise -> clean latents and policy features; and the same noise through the frozen reference. */
#ifndef DRPO_STEP_GENERATE_H
#define DRPO_STEP_GENERATE_H

#include "step/candidates.h"

/* Fills c->latents and feature[].policy from c->noise in chunks of the pass's batch. text: see text_encoders.h */
int generate_candidates(GeneratorPass *policy, const float *text, Candidates *c, Error *err);
/* Fills feature[].reference from the same noise. */
int generate_reference(GeneratorPass *reference, const float *text, Candidates *c, Error *err);
/* Adds d(loss)/d(LoRA) to grad, given feature[].grad. `held`: the pass still holds the forward half of all candidates.
 */
int generate_gradient(GeneratorPass *policy, const float *text, Candidates *c, bool held, float *grad, Error *err);

#endif
