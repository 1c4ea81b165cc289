/* Offline: learning from given pictures instead of from a reward's scores.
 *
 *   offline            chosen pictures attract, rejected ones repel; all candidates move
 *   offline-distance   candidates are scored by their distance to the pictures (distance.h), then ranked as online; the
 *                      better half moves
 *
 * In the update: instead of decode and reward, before select. */
#ifndef DRPO_STEP_OFFLINE_H
#define DRPO_STEP_OFFLINE_H

#include "model/encode_pass.h"
#include "model/latent_pass.h"
#include "step/candidates.h"

typedef struct OfflinePasses {
    EncodePass *encode;
    LatentPass *look; /* every key but the anchor, one picture at a time */
} OfflinePasses;

/* Encodes the prompt's pictures and fills feature[].data of every key but the anchor's; released by candidates_free. */
int offline_look(const OfflinePasses *passes, const OfflineOptions *o, const float *text, const Prompt *prompt,
                 Candidates *c, Error *err);
/* offline-distance: c->score. anchor_key: the last key is the latents themselves. */
int offline_score(const OfflineOptions *o, bool anchor_key, Candidates *c, Error *err);
/* After selection: c->moving; given pictures that are no anchors are dropped. */
void offline_choose(const OfflineOptions *o, Candidates *c);

#endif
