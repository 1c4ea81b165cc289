/* What the kinds of reward share: the parsed specification and how a kind is opened. */
#ifndef DRPO_STEP_REWARD_INTERNAL_H
#define DRPO_STEP_REWARD_INTERNAL_H

#include "step/reward/reward.h"

enum { REWARD_MAX_OPTIONS = 8 };

/* NAME[:ARG][?option=value&...][@weight], cut apart; `text` owns the parts. */
typedef struct RewardSpec {
    char *text;
    const char *name, *argument; /* argument: "" when there is none */
    int n_options;
    const char *key[REWARD_MAX_OPTIONS], *value[REWARD_MAX_OPTIONS];
    float weight;
} RewardSpec;

int reward_spec_parse(const char *text, RewardSpec *out, Error *err);
void reward_spec_free(RewardSpec *s);
/* NULL when the option is not given. */
const char *reward_option(const RewardSpec *s, const char *key);
/* Error unless every option is in `allowed` ("name, images"), a NULL-terminated list. */
int reward_options_known(const RewardSpec *s, const char *const *allowed, Error *err);
/* A number greater than 0, or `fallback`. */
int reward_option_seconds(const RewardSpec *s, const char *key, double fallback, double *out, Error *err);

/* A reward with its weight and a metric name made of [a-z0-9_] from `name` (or the option `name`). */
Reward *reward_new(const RewardSpec *spec, const char *name);

int scene_reward_open(const RewardSpec *spec, Reward **out, Error *err);
int exec_reward_open(const RewardSpec *spec, Reward **out, Error *err);
int callback_reward_open(const RewardSpec *spec, const RewardCallback *callbacks, int count, Reward **out, Error *err);

/* Error when a score is not finite; `who` is for the message. */
int reward_check_finite(const char *who, const float *scores, int count, Error *err);

#endif
