/* What the files of the public API share. */
#ifndef DRPO_API_API_H
#define DRPO_API_API_H

#include "train/job.h"

enum { MAX_CALLBACK_REWARDS = 16 };

struct drpo_config {
    Config *config;
    Error error;
    RewardCallback reward[MAX_CALLBACK_REWARDS];
    int rewards;
};

#endif
