/* GenEval as a reward, and its verdicts in full for the benchmark. */
#ifndef DRPO_STEP_REWARD_GENEVAL_REWARD_H
#define DRPO_STEP_REWARD_GENEVAL_REWARD_H

#include "step/reward/geneval.h"
#include "step/reward/reward.h"

/* One picture, judged. */
typedef struct GenevalResult {
    GenevalVerdict verdict;
    char *details; /* JSON: {class: [[x1, y1, x2, y2, score], ...]} of the objects that counted; released with free() */
} GenevalResult;

/* Whether the reward is GenEval's. */
bool geneval_reward_is(const Reward *r);
/* results [pictures->count]; their details are the caller's also after a failure. A worker that judges by itself gives
 * neither reasons nor details. */
int geneval_reward_judge(Reward *r, const Prompt *prompt, const Pictures *pictures, GenevalResult *results, Error *err);

#endif
