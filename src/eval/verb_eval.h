/* The verb `eval`: fixed prompts and noises, before and after an adapter, as a table per tag with intervals. */
#ifndef DRPO_EVAL_VERB_EVAL_H
#define DRPO_EVAL_VERB_EVAL_H

#include "train/job.h"

int verb_eval(const Job *job, Error *err);

#endif
