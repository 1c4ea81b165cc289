/* Look: features of finished latents through the maps that stand aside (model/latent_pass.h), and the way back from
 * their gradient to that of the latents. In the update: between reward and drift, and between drift and gradient. */
#ifndef DRPO_STEP_LOOK_H
#define DRPO_STEP_LOOK_H

#include "step/candidates.h"

/* feature[].policy of maps aside from c->latents; where anchors are drawn anew, feature[].anchors too. */
int look_at_candidates(LatentPass *aside, const float *text, Candidates *c, Error *err);
/* feature[].reference of them from c->base. */
int look_at_reference(LatentPass *aside, const float *text, Candidates *c, Error *err);
/* Adds d(loss)/d(latents) through the maps aside, given their feature[].grad, to the gradient of the anchor key. */
int look_back(LatentPass *aside, const float *text, Candidates *c, Error *err);

#endif
