/* The verb `pretrain`: a generator of the embedded size from random numbers and rendered scenes. */
#ifndef DRPO_PRETRAIN_VERB_PRETRAIN_H
#define DRPO_PRETRAIN_VERB_PRETRAIN_H

#include "train/job.h"

int verb_pretrain(const Job *job, Error *err);

#endif
