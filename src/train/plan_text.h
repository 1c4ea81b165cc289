/* The plan of a training run in words: memory and chunking, before the first step. */
#ifndef DRPO_TRAIN_PLAN_TEXT_H
#define DRPO_TRAIN_PLAN_TEXT_H

#include "step/step.h"
#include "train/job.h"

int plan_print(const Job *job, const Step *step, Error *err);

#endif
