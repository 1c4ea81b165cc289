/* Stop rules: --stop-when. A run goes on as long as every rule holds at its evaluations; the rules see a line of
 * eval.jsonl and nothing else, so that a resumed run knows from its records what an uninterrupted one knows.
 *
 *     heldout_drop=X             a held-out reward is more than X below the best it has been (the base counts)
 *     diversity_below=X          diversity of latents, feature_diversity_below=X of features, tuned / base
 *     saturation_above=X         and highfreq_above=X, tuned / base
 *     distance_above=X           distance of the latents to the base's
 *     reward_plateau=N           the reward at the fixed prompts has not risen for N evaluations
 *
 * Kept is the evaluation with the highest reward at the fixed prompts among those at which every rule held (of equals,
 * the later one). */
#ifndef DRPO_TRAIN_STOP_RULES_H
#define DRPO_TRAIN_STOP_RULES_H

#include <jansson.h>
#include <stdbool.h>

#include "step/step_types.h"
#include "train/config.h"

enum { STOP_MAX_RULES = 16, STOP_NAMES = 192, STOP_WHY = 512 };

typedef struct StopRule {
    const struct StopKind *kind;
    double limit;
    bool percent; /* of the value that it is compared with */
    char text[64];
} StopRule;

/* Which rules did not hold, at which evaluation. */
typedef struct StopVerdict {
    bool fired;
    char rules[STOP_NAMES]; /* "diversity_below=0.7" */
    double value;           /* that the first of them is about */
    char why[STOP_WHY];     /* "the diversity of candidates is 0.65 of the base's" */
} StopVerdict;

typedef struct StopRules {
    StopRule rule[STOP_MAX_RULES];
    int count;
    char heldout[MAX_REWARDS][64];
    double best_heldout[MAX_REWARDS];
    int heldouts;
    double best_reward; /* of all evaluations; NaN: none */
    int since_best;     /* evaluations since then */
    long best_step;     /* of it */
    long kept;          /* step of the evaluation that is kept; -1: none */
    double kept_reward; /* at it */
    long step;          /* of the last evaluation */
    StopVerdict last;   /* on it */
} StopRules;

/* Parses --stop-when and refuses what could never hold or fire under the other options. No rule: count 0. */
int stop_rules_open(const Config *c, StopRules *out, Error *err);
/* The next evaluation, a line of eval.jsonl. True when it is the one to keep. */
bool stop_rules_judge(StopRules *s, const json_t *line);
/* Every line of a file, for a resumed run: of those adapters there are only that of step `kept` (-1: none) and that of
 * step `own`. */
int stop_rules_replay(StopRules *s, const char *path, long kept, long own, Error *err);
/* What a line of eval.jsonl says about its verdict: {"rules", "value", "why", "kept"}; NULL when out of memory. */
json_t *stop_rules_json(const StopRules *s);

#endif
