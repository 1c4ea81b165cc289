/* Measurements of `drpo bench`: an update (verb_bench.c, of a published size bench_shape.c), single ops (bench_op.c),
 * the drift (bench_drift.c), rewards (bench_reward.c). */
#ifndef DRPO_TRAIN_BENCH_H
#define DRPO_TRAIN_BENCH_H

#include "train/job.h"

/* What --shape names, in the order of its choices. */
typedef enum Shaped { SHAPE_TINY, SHAPE_SD_TURBO, SHAPE_SDXL_TURBO } Shaped;
/* The job with what --shape asks for: a random model of that size, made if it is not there, and the options of an
 * update of it that were not given. job->config is changed. `out` lives as long as `a` and `job`. */
int bench_shape(const Job *job, Arena *a, Job *out, Error *err);

/* Forward and gradient of single ops at the shapes of the embedded model and of SD-Turbo at 512 pixels, beside the
 * fastest product and the fastest copy that this machine manages. */
int bench_ops(const Job *job, Error *err);
/* One drift field at growing numbers of rows. */
int bench_drift(const Job *job, Error *err);
/* Pictures a second of each --reward. */
int bench_reward(const Job *job, Error *err);

#endif
