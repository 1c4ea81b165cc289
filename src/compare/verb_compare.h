/* The verbs `compare` and `sweep`: several option sets, trained and judged alike; one table with paired intervals. */
#ifndef DRPO_COMPARE_VERB_COMPARE_H
#define DRPO_COMPARE_VERB_COMPARE_H

#include "train/job.h"

int verb_compare(const Job *job, Error *err);
int verb_sweep(const Job *job, Error *err);

#endif
