/* The plan of a training run in words: memory and chunking, before the first step. */
#ifndef DRPO_TRAIN_PLAN_TEXT_H
#define DRPO_TRAIN_PLAN_TEXT_H

#include "train/job.h"
#include "train/preview.h"

/* preview NULL: the run has no evaluation */
int plan_print(const Job *job, const Training *t, const Preview *preview, Error *err);

#endif
