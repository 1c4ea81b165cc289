/* Start: weights of a UNet that has learnt nothing, and how fast each may move.
 *
 * A one-step generator divides its error by sqrt(abar) = 0.068 (x0 = sigma (z - eps)), and norms let no noise through
 * exactly. So one norm group of conv_in's channels is wired by hand to carry z past everything to conv_out: at the
 * start eps = z + a little, and x0 is near 0. Wired values stay; conv_out, whose slope is sigma times larger, moves by
 * lr/sigma. */
#ifndef DRPO_MODEL_UNET_START_H
#define DRPO_MODEL_UNET_START_H

#include "model/pipeline.h"

/* Fills `a` (full_new) with random weights and the wires. A UNet that has no group of 8 channels to spare:
 * DRPO_E_INPUT. */
int unet_start(const Pipeline *p, Adapter *a, uint64_t seed, Error *err);
/* Share of the learning rate for each value of `a`: 0 for the wires; released with free(). A UNet without the wires:
 * every share is 1, and *out stays NULL. */
int unet_start_shares(const Pipeline *p, const Adapter *a, float **out, Error *err);

#endif
