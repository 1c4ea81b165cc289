/* Kinds of reward: what each is called, takes, needs and promises. `drpo rewards` prints it.
 *
 * A new kind is one file with its `const RewardKind`, and one line in kinds.c. */
#ifndef DRPO_STEP_REWARD_KIND_H
#define DRPO_STEP_REWARD_KIND_H

#include "step/reward/reward.h"

struct RewardSpec;

typedef enum RewardOptionType {
    REWARD_TEXT,    /* anything */
    REWARD_SECONDS, /* a number greater than 0 */
    REWARD_NUMBER,  /* any finite number */
    REWARD_COUNT,   /* an integer, limits "low..high" */
    REWARD_CHOICE   /* one of the limits "a|b|c" */
} RewardOptionType;

typedef struct RewardOption {
    const char *key;
    RewardOptionType type;
    const char *initial, *limits, *help; /* initial "": none */
} RewardOption;

/* What a kind may need from outside. */
typedef struct RewardContext {
    const RewardCallback *callbacks;
    int n_callbacks;
} RewardContext;

/* One row of `drpo rewards`. */
typedef struct RewardKind {
    const char *name;
    const char *argument;                                   /* "COMMAND"; NULL: it takes none */
    const char *scores, *needs, *range, *licence, *weights; /* for people; weights: where they come from */
    const RewardOption *options;                            /* its own, ended by a NULL key; may be NULL */
    bool passes_options;                                    /* unknown options are the reward's own business */
    bool networks; /* computes in this process with weights of its own, which a plan of memory opens */
    int retries;   /* the default of ?retries= */
    int (*open)(const struct RewardSpec *spec, const RewardContext *context, Reward **out, Error *err);
} RewardKind;

extern const RewardKind scene_kind, scene_correct_kind, scene_smooth_kind, geneval_kind, exec_kind, http_kind,
    https_kind, plugin_kind, callback_kind, hpsv3_kind, imagereward_kind;
extern const RewardKind clipscore_kind, pickscore_kind, hpsv2_kind, aesthetic_kind;

const RewardKind *reward_kind(int i); /* NULL behind the last */
/* Options that every reward takes, ended by a NULL key. */
extern const RewardOption reward_common_options[];

#endif
