/* The verb `geneval`: the GenEval benchmark: pictures of every prompt, verdicts, scores per tag. */
#ifndef DRPO_EVAL_VERB_GENEVAL_H
#define DRPO_EVAL_VERB_GENEVAL_H

#include "train/job.h"

int verb_geneval(const Job *job, Error *err);

#endif
