/* The verb `eval`: fixed prompts and noises, before and after an adapter, as a table per tag with intervals. */
#ifndef DRPO_EVAL_VERB_EVAL_H
#define DRPO_EVAL_VERB_EVAL_H

#include "eval/table.h"
#include "train/grid.h"
#include "train/job.h"

/* The base's half of an evaluation, for others that differ in nothing but the adapter. Start from {0}. */
typedef struct EvalBase {
    EvalTable table; /* without rows: nothing is known yet */
    Grid grid;       /* the base's side alone */
} EvalBase;
void eval_base_free(EvalBase *b);

int verb_eval(const Job *job, Error *err);
/* The same; what `base` holds is taken over, else it is filled. Whatever could not be scored keeps it empty. */
int verb_eval_beside(const Job *job, EvalBase *base, Error *err);

#endif
