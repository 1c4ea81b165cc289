/* What rewards on CLIP models share: an opened model with its backend, and a score of a picture's embedding. */
#ifndef DRPO_STEP_REWARD_CLIP_REWARD_H
#define DRPO_STEP_REWARD_CLIP_REWARD_H

#include <pthread.h>

#include "model/clip_pass.h"
#include "step/reward/reward_internal.h"

enum { CLIP_EMBEDDING_MAX = 1 << 14 };

typedef struct ClipReward ClipReward;
struct ClipReward {
    ClipModel model;
    PictureRule rule;
    Backend *backend;
    ClipPass *pass;
    double scale;
    pthread_mutex_t lock; /* the passes serve one caller at a time */
    bool texts;           /* compared with the prompt's embedding */
    size_t prompts;       /* that were planned for */
    /* Score of an embedding [projection] (text NULL without texts) and, unless NULL, d(score)/d(image). */
    double (*rate)(const ClipReward *c, const float *image, const float *text, float *gradient);
    void *head; /* of the aesthetic predictor */
    void (*free_head)(void *head);
};

/* `get`: the repository that has the weights, for messages. The reward owns what is opened; `rate` and `head` are set
 * by the caller. */
int clip_reward_open(const RewardSpec *spec, bool texts, CropRule crop, const char *get, Reward **out, Error *err);

#endif
