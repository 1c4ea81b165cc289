/* What the kinds of reward share: the parsed specification and its checked options. */
#ifndef DRPO_STEP_REWARD_INTERNAL_H
#define DRPO_STEP_REWARD_INTERNAL_H

#include "step/reward/reward_kind.h"

enum { REWARD_MAX_OPTIONS = 16 };

/* NAME[:ARG][?option=value&...][@weight], cut apart; `text` owns the parts. */
typedef struct RewardSpec {
    char *text;
    const char *name, *argument; /* argument: "" when there is none */
    int n_options;
    const char *key[REWARD_MAX_OPTIONS], *value[REWARD_MAX_OPTIONS];
    float weight;
    bool weighted; /* a weight was given */
    const RewardKind *kind;
} RewardSpec;

int reward_spec_parse(const char *text, RewardSpec *out, Error *err);
void reward_spec_free(RewardSpec *s);
/* Finds the kind and checks its argument and every option, once for all kinds. */
int reward_spec_check(RewardSpec *s, Error *err);
/* Of a checked specification: what was given, else the default. */
const char *reward_text(const RewardSpec *s, const char *key);
double reward_number(const RewardSpec *s, const char *key); /* seconds and counts too */
int reward_choice(const RewardSpec *s, const char *key);    /* index into the choices */
/* Options of the reward's own, "key=value&key=value", for a kind that passes them on. Released with free(). */
char *reward_own_options(const RewardSpec *s);

/* A reward with its weight, the common options and a metric name made of [a-z0-9_] from `name` (or the option `name`).
 * NULL when out of memory. */
Reward *reward_new(const RewardSpec *spec, const char *name);

#endif
