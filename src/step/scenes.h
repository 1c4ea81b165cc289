/* Scenes: what pretraining learns from. For every candidate the scene that its noise stands for is drawn and encoded;
 * it takes the place of the frozen reference.
 *
 *     --lambda-ref   the drift: candidates attracted by all scenes of their caption, repelled by one another
 *     --latent-l2    mean((x0 - scene's latents)^2), each candidate with its own
 *
 * In the update: instead of reward, select and reference, before drift. */
#ifndef DRPO_STEP_SCENES_H
#define DRPO_STEP_SCENES_H

#include "model/encode_pass.h"
#include "model/latent_pass.h"
#include "step/candidates.h"

typedef struct ScenePasses {
    EncodePass *encode;
    LatentPass *look; /* every key but the anchor, one picture at a time */
} ScenePasses;

/* Fills feature[].reference, the anchor's included, from the prompt's metadata and c->noise. */
int scenes_reference(const ScenePasses *passes, bool reliable, const float *text, const Prompt *prompt, Candidates *c,
                     Error *err);

#endif
