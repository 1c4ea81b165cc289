/* Select: the best become attractors, the worst repellers. Only the order of scores matters; equal scores rank the
 * lower index first. */
#ifndef DRPO_STEP_SELECT_H
#define DRPO_STEP_SELECT_H

#include "step/step_types.h"

/* scores [count]. Skips when any score is not finite or when max - min <= min_spread. */
int select_candidates(const double *scores, int count, int positives, int negatives, double min_spread, Selection *out,
                      Error *err);

/* Mean score of the positives minus that of the negatives: how much a prompt has to tell. */
double select_spread(const double *scores, const Selection *s);

#endif
