/* Training: everything one update needs, opened from the options. Shared by train, plan and bench. */
#ifndef DRPO_TRAIN_TRAINING_H
#define DRPO_TRAIN_TRAINING_H

#include "train/checkpoint.h"
#include "train/prompt_order.h"
#include "train/session.h"

typedef struct Training {
    Session session;
    Adapter *adapter;
    Adapter *average; /* --ema: its moving average; NULL: none */
    double ema;       /* decay */
    Adapter *kept;    /* --stop-when: that of the evaluation to keep; NULL: no rules */
    PromptList prompts;
    const char *prompts_path;
    RewardSet rewards, heldout;
    Error uncounted; /* of a plan: the first reward whose network could not be opened */
    Step *step;
    StepOptions options; /* that it was planned with */
    NoiseSource *noise;
    Optimizer optimizer;
    float *share; /* of the rate, for each value (model/unet_start.h); NULL: all of it */
    PromptOrder *order;
    int prompts_per_update;
    Prompt *batch;   /* [prompts_per_update], of the last update */
    size_t *indices; /* likewise, in the prompt file */
    RunIdentity identity;
    size_t planned; /* bytes of memory at the peak, by training_fill */
} Training;

/* `rewards` false: only those with networks of their own are opened, for a plan. Close it also after a failure. */
int training_open(Training *t, const Job *job, bool rewards, Error *err);
void training_close(Training *t);

/* training_rewards.c; part of training_open */
int training_rewards(Training *t, const Job *job, bool all, Error *err);

/* ---- memory: nothing is computed before training_fill (training_memory.c) ---- */
struct MemoryPlan;
struct Preview;
/* preview NULL: none */
void training_plan(const Training *t, const Config *c, const struct Preview *preview, struct MemoryPlan *out);
/* Opens what --eval-every asks for, where `preview` is not NULL (the caller closes it, also after a failure), and plans
 * the step anew with fewer bytes for activations where the machine has too little for both. */
int training_fit(Training *t, const Job *job, struct Preview **preview, Error *err);
/* Refuses what does not fit and says what would; encodes the run's prompts; fills memory. */
int training_fill(Training *t, const Job *job, const struct Preview *preview, Error *err);
/* What an evaluation looks at and a run ends with: the average if there is one. */
Adapter *training_result(const Training *t);
/* Call it after the adapter was read from a checkpoint. */
void training_refresh(Training *t);
/* Update number `number` (from 0). */
int training_update(Training *t, long number, StepStats *stats, Error *err);

#endif
