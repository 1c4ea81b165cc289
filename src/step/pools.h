/* Pools: what is learned from when a reward only says yes or no.
 *
 * Candidates are drawn in rounds until there are enough on both sides. Among those of a side, who attracts or repels is
 * drawn by lot: every candidate of a prompt has a ticket that depends on nothing but (seed, update, prompt, its
 * number), and the lowest tickets win. A prompt that has too few on either side after the last round is skipped. The
 * chosen ones alone are drawn again and learned from. In the update: reward -> pools -> drift, in place of select. */
#ifndef DRPO_STEP_POOLS_H
#define DRPO_STEP_POOLS_H

#include "step/candidates.h"

/* scores [count]: half and more is positive. At most `positives` and `negatives`; skips with fewer than `least`
 * positives (0: as many as are wanted) or too few negatives. */
int pools_select(const double *scores, int count, int positives, int least, int negatives, RngKey key, Selection *out,
                 Error *err);

/* Adds the round that was scored last to the rollout. */
void pools_keep(Candidates *c);
/* Whether there is room for a further round and need of it. */
bool pools_want_more(const Candidates *c, const PoolOptions *o, int positives, int negatives);
/* Selects from the rollout, and makes the chosen ones the candidates: their noise, scores and number, and which of them
 * are moved. */
int pools_choose(Candidates *c, const PoolOptions *o, int positives, int negatives, Error *err);
size_t pools_stride(const Candidates *c); /* of rollout.raw */

#endif
