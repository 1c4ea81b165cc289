/* Measurements of `drpo bench`: an update (verb_bench.c), single ops (bench_op.c), the drift (bench_drift.c), rewards
 * (bench_reward.c). */
#ifndef DRPO_TRAIN_BENCH_H
#define DRPO_TRAIN_BENCH_H

#include "train/job.h"

/* Forward and gradient of single ops at the shapes of the embedded model and of SD-Turbo at 512 pixels, beside the
 * fastest product and the fastest copy that this machine manages. */
int bench_ops(const Job *job, Error *err);
/* One drift field at growing numbers of rows. */
int bench_drift(const Job *job, Error *err);
/* Pictures a second of each --reward. */
int bench_reward(const Job *job, Error *err);

#endif
