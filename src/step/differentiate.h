/* Differentiate: d(reward)/d(latents) of every candidate, for methods that use the reward's own gradient.
 *
 *     image = clamp(decode(x0 / scaling), -1, 1);   d r/d x0 = (d image/d x0)^T d r/d image
 *
 * One picture, or a few, at a time through the VAE decoder. In the update: beside reward. */
#ifndef DRPO_STEP_DIFFERENTIATE_H
#define DRPO_STEP_DIFFERENTIATE_H

#include "model/latent_pass.h"
#include "step/candidates.h"

/* The builder of the pass: the picture as the only key, [N,H*W,3]. */
FeatureBuilder differentiate_builder(void);
/* Who knows d(score)/d(pixels): as reward_set_gradient. */
typedef struct GradientSource {
    int (*ask)(void *user, const Prompt *prompt, const float *images, int n, int height, int width, double *scores,
               float *gradient, Error *err);
    void *user;
} GradientSource;
/* c->reward [K] and c->reward_gradient [K,h*w,C]. */
int differentiate(LatentPass *picture, const GradientSource *source, const Prompt *prompt, Candidates *c, Error *err);

#endif
