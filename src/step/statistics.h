/* Statistics: what one update reports, gathered prompt by prompt; and the clock of its phases. */
#ifndef DRPO_STEP_STATISTICS_H
#define DRPO_STEP_STATISTICS_H

#include "step/candidates.h"

typedef struct PhaseClock {
    StepStats *stats;
    double last;
} PhaseClock;

PhaseClock phase_start(StepStats *stats);
void phase_end(PhaseClock *clock, int phase); /* time since the last call goes to `phase` */

/* DRPO_E_NUMERIC with the candidate's number when a latent is not finite. */
int statistics_check_latents(const Candidates *c, const Prompt *prompt, Error *err);
/* raw [rewards,stride] of `count` candidates. */
void statistics_add_rewards(StepStats *stats, const float *raw, size_t stride, int count, int rewards);
/* The same where no reward scored: the scores stand for themselves when there are any. */
void statistics_add_scores(StepStats *stats, const Candidates *c, bool scored);
/* Between the two nearest of n values, which are put in order. */
double statistics_quantile(double *values, int n, double quantile);
/* Adds one prompt's sums. Its seconds count as 1/workers: they ran at the same time as others'. */
void statistics_join(StepStats *total, const StepStats *one, int workers);
/* Sums to means over `prompts` (losses: over the prompts used). */
void statistics_finish(StepStats *stats, int prompts);

#endif
