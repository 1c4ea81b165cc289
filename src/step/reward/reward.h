/* Reward: anything that scores pictures of one prompt; higher is better. Only the ranking is used.
 *
 * Named NAME[:ARG][?option=value&...][@weight]; the kinds are listed by `drpo rewards` (reward_kind.h). Several make an
 * ensemble: per prompt, each is z-scored, (x - mean) / max(population std, 1e-6), and summed with normalised weights.
 *
 * A black box may fail in any way. What it hands over is checked here, once for all kinds; a fault is tried again, then
 * it is an error that names the reward and what happened, and the caller's policy says whether the run stops or skips
 * the prompt. A score that is not finite never leaves this folder. */
#ifndef DRPO_STEP_REWARD_H
#define DRPO_STEP_REWARD_H

#include <stdatomic.h>

#include "base/log.h"
#include "drpo.h"
#include "step/step_types.h"

/* What a reward is going to be asked, for planning its memory. */
typedef struct RewardWork {
    const PromptList *prompts;
    int pictures, height, width; /* of one prompt */
    bool gradient;               /* score_gradient too */
} RewardWork;

/* Bytes that answering takes beside what the process has when it is planned (train/memory.h). */
typedef struct RewardMemory {
    size_t filled; /* packed weights, activations, buffers */
    size_t mapped; /* weights that are read in their files */
    size_t reread; /* of these, what may leave memory in between: it is slow then, but it works */
} RewardMemory;

typedef struct Reward Reward;
struct Reward {
    char name[64];   /* for metrics: "scene", "exec_warm", ... */
    char label[256]; /* for messages: "exec 'python3 warm.py'" */
    float weight;    /* as given, default 1 */
    bool needs_metadata;
    /* Reads the prompt's text alone, so that pictures of other lines with that text may be scored together. */
    bool ignores_metadata;
    int lanes;          /* calls of score() that may run at the same time, at least 1 */
    int batch;          /* most pictures per call, 0: those of a prompt, divided among the lanes */
    int retries;        /* attempts after the first */
    double backoff;     /* seconds before the second attempt, then doubled */
    atomic_long faults; /* attempts that failed */
    /* scores [pictures->count], written completely. Faults of the reward itself are DRPO_E_REWARD. */
    int (*score)(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err);
    /* NULL: not differentiable. images [n,3,height,width] in [-1,1] -> scores [n] and gradient [n,3,height,width],
     * d(score of a picture)/d(its pixels). For methods that differentiate their reward. Calls come one at a time. */
    int (*score_gradient)(Reward *r, const Prompt *prompt, const float *images, int n, int height, int width,
                          float *scores, float *gradient, Error *err);
    /* ---- networks of its own; NULL: none ---- */
    /* Plans what this work needs and fills nothing before the first score. Comes before that, several times. */
    int (*plan)(Reward *r, const RewardWork *work, Error *err);
    void (*memory)(const Reward *r, RewardMemory *out);
    void (*destroy)(Reward *r);
    void *state;
};

typedef struct RewardCallback { /* registered through the API */
    char name[64];
    drpo_reward_fn fn;
    void *user;
} RewardCallback;

typedef struct RewardSet {
    Reward *reward[MAX_REWARDS];
    int count;
    bool skip; /* a prompt whose reward failed is skipped instead of ending the run */
    Log log;
    int failed_in_a_row;
} RewardSet;

int reward_open(const char *spec, const RewardCallback *callbacks, int n_callbacks, Reward **out, Error *err);
void reward_close(Reward *r);
/* Scores [pictures->count], all finite: in parts of r->batch on r->lanes threads, every part tried 1 + r->retries
 * times. Where a score stands depends on its picture alone, never on which part was ready first. `fault` (may be NULL)
 * receives what went wrong in attempts that a later one made good. */
int reward_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *fault, Error *err);

/* Plans work as it will be divided; nothing for a reward without networks. */
int reward_plan(Reward *r, const RewardWork *work, Error *err);

int reward_set_open(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks, RewardSet *out,
                    Error *err);
/* Rewards that are only measured: no weights; none at all is fine. */
int reward_set_open_heldout(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks,
                            RewardSet *out, Error *err);
/* Only those with networks of their own, for a plan: no program is started, no server asked. *why: the first that could
 * not be opened. */
int reward_set_open_networks(const char *const *specs, int n, RewardSet *out, Error *why, Error *err);
void reward_set_close(RewardSet *s);
/* Adds what the planned networks of all take. */
void reward_set_memory(const RewardSet *s, RewardMemory *sum);
/* raw [count of rewards][pictures], row-major; ensemble [pictures], may be NULL: weighted sum of per-prompt z-scores
 * (one reward: its raw values). */
int reward_set_score(RewardSet *s, const Prompt *prompt, const Pictures *pictures, float *raw, double *ensemble,
                     Error *err);
/* Scores [n] and gradient [n,3,height,width] of the sum of the rewards by their weights as given; images
 * [n,3,height,width] in [-1,1]. A reward that has no gradient is an error that names it. */
int reward_set_gradient(RewardSet *s, const Prompt *prompt, const float *images, int n, int height, int width,
                        double *scores, float *gradient, Error *err);
/* What --on-reward-error says about `code` of reward_set_score: true when the prompt is to be skipped; *err is then
 * told to the log and cleared. Many failures in a row end the run all the same. */
bool reward_set_forgive(RewardSet *s, int code, Error *err);
long reward_set_faults(const RewardSet *s); /* failed attempts since the set was opened */
/* Just the arithmetic, for tests and replays. */
void reward_ensemble(const float *raw, const float *weights, int rewards, int count, double *ensemble);

#endif
