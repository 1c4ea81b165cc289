/* Agreement: whether a reward ranks pictures of a small decoder as it ranks those of the full one (--reward-decoder).
 *
 *     tau-b = (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y) */
#ifndef DRPO_STEP_AGREEMENT_H
#define DRPO_STEP_AGREEMENT_H

#include "step/step_types.h"

/* Kendall's tau-b of x and y [n]; NaN where either has no order. */
double agreement_tau(const double *x, const double *y, int n);
/* One decoder's view of a prompt's candidates; choice NULL: scores are verdicts of 0 and 1, nobody is ranked. */
typedef struct Ranking {
    const double *scores;
    const Selection *choice;
} Ranking;
/* Adds one prompt of `count` candidates. */
void agreement_add(Agreement *sum, const Ranking *small, const Ranking *full, int count);
void agreement_join(Agreement *total, const Agreement *one);
void agreement_finish(Agreement *a); /* sums to means */

#endif
