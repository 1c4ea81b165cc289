/* Optimize: global-norm clipping, AdamW with decoupled weight decay, learning-rate schedules. On the adapter's one
 * block of values. */
#ifndef DRPO_STEP_OPTIMIZE_H
#define DRPO_STEP_OPTIMIZE_H

#include "step/step_types.h"

typedef enum Schedule { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE } Schedule;

typedef struct Optimizer {
    float lr, beta1, beta2, eps, weight_decay, clip; /* clip 0: off */
    Schedule schedule;
    int warmup, total;
    long step; /* updates done */
    size_t count;
    float *m, *v;       /* first and second moments [count] */
    const float *share; /* [count] of lr that a value moves with; 0: it stays. NULL: all of it. Not owned */
} Optimizer;

int optimizer_allocate(Optimizer *o, size_t count, Error *err);
void optimizer_free(Optimizer *o);
/* Rate of update `step` (from 0): lr * min(1, (step+1)/warmup) * decay, decay = 1 - step/total (linear), (1+cos(pi
 * step/total))/2 (cosine). */
float schedule_rate(const Optimizer *o, long step);
/* values -= ..., *norm: of the gradient before clipping, which stays as it is. Non-finite norm: DRPO_E_NUMERIC, nothing
 * changed. */
int optimizer_update(Optimizer *o, float *values, const float *grad, double *norm, Error *err);

#endif
