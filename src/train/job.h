/* Job: one verb about to run: its options, and whom it talks to. Every verb is `int verb_x(const Job *, Error *)`. */
#ifndef DRPO_TRAIN_JOB_H
#define DRPO_TRAIN_JOB_H

#include "base/log.h"
#include "step/reward/reward.h"
#include "train/config.h"

typedef struct Job {
    Config *config;
    Log log;
    const drpo_callbacks *callbacks; /* NULL: nobody listens */
    const RewardCallback *rewards;
    int n_rewards;
} Job;

/* A line of the verb's result (the program's stdout). */
void job_result(const Job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool job_cancelled(const Job *job);
/* Opens the rewards of --reward; none of them scored anything yet. Prompts without metadata are refused by rewards that
 * need it. */
int job_rewards(const Job *job, RewardSet *out, Error *err);
/* Likewise those of --eval-reward, which are only measured; there may be none. */
int job_heldout_rewards(const Job *job, RewardSet *out, Error *err);
/* Of both only those with networks of their own (reward_set_open_networks). */
int job_reward_networks(const Job *job, RewardSet *rewards, RewardSet *heldout, Error *why, Error *err);
int job_rewards_fit(const RewardSet *rewards, const Prompt *prompts, size_t n, const char *file, Error *err);

int verb_train(const Job *job, Error *err);
int verb_plan(const Job *job, Error *err);
int verb_bench(const Job *job, Error *err);
int verb_sample(const Job *job, Error *err);
int verb_score(const Job *job, Error *err);
int verb_rewards(const Job *job, Error *err);
int verb_inspect(const Job *job, Error *err);
int verb_export(const Job *job, Error *err);
int verb_doctor(const Job *job, Error *err);
int verb_replay(const Job *job, Error *err);

#endif
