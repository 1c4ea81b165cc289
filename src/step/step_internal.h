/* What the two halves of an update share: step.c opens, adds up and moves the weights; step_prompt.c takes prompts
 * through all stages. */
#ifndef DRPO_STEP_INTERNAL_H
#define DRPO_STEP_INTERNAL_H

#include "model/taesd.h"
#include "model/text_pass.h"
#include "step/step.h"
#include "step/turns.h"
#include "step/workers.h"

struct Step {
    StepOptions options;
    Adapter *adapter;
    Pipeline *pipeline;
    Backend *backend;
    FeatureMaps *maps;
    Taesd *small; /* decoder for the reward; NULL: the pipeline's */
    TextPass *text;
    Workers workers;
    int cores;            /* that compute at the same time, 0 < cores */
    float *grad;          /* [adapter->count] */
    double vgg_threshold; /* of this update */
    double *norm;         /* [prompts * candidates] of this update's reward gradients */
    int norms;
    StepObserver observer;
    void *user; /* of the observer */
};

/* The prompts of one update, which as many workers as there are take one after another. */
typedef struct Round {
    Step *step;
    const Prompt *prompts;
    int n;
    long number; /* of the update */
    NoiseSource *noise;
    RewardSet *rewards;
    StepStats *stats;
    pthread_mutex_t entry; /* prompts are prepared one after another */
    Turns turns;
    Error *err;
} Round;

/* Takes prompts of the round (user: Round) through all stages on one worker, until none is left. They are added in
 * their order, so the sum is the same to the bit, and of several errors the first is told. */
void step_work(Worker *w, void *user);

#endif
