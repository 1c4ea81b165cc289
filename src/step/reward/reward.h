/* Reward: anything that scores pictures of one prompt; higher is better. Only the ranking is used.
 *
 * Named NAME[:ARG][?option=value&...][@weight]:
 *   scene                     the embedded world's verifier: 0.5 correct + 0.5 partial credit (needs metadata)
 *   scene-correct             its 0/1 verdict alone
 *   exec:COMMAND              a child process that speaks line-delimited JSON (docs/rewards.md)
 *   callback:NAME             a function given through the public API
 * Several make an ensemble: per prompt, each is z-scored, (x - mean) / max(population std, 1e-6), and summed with
 * normalised weights. */
#ifndef DRPO_STEP_REWARD_H
#define DRPO_STEP_REWARD_H

#include "drpo.h"
#include "step/step_types.h"

typedef struct Reward Reward;
struct Reward {
    char name[64]; /* for metrics: "scene", "exec_warm", ... */
    float weight;  /* as given, default 1 */
    bool needs_metadata;
    /* scores [pictures->count]; checks count and finiteness itself. May be called by one thread at a time. */
    int (*score)(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err);
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
} RewardSet;

int reward_open(const char *spec, const RewardCallback *callbacks, int n_callbacks, Reward **out, Error *err);
void reward_close(Reward *r);

int reward_set_open(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks, RewardSet *out,
                    Error *err);
void reward_set_close(RewardSet *s);
/* raw [count of rewards][pictures], row-major; ensemble [pictures]: weighted sum of per-prompt z-scores (one reward:
 * its raw values). */
int reward_set_score(RewardSet *s, const Prompt *prompt, const Pictures *pictures, float *raw, double *ensemble,
                     Error *err);
/* Just the arithmetic, for tests and replays. */
void reward_ensemble(const float *raw, const float *weights, int rewards, int count, double *ensemble);

#endif
