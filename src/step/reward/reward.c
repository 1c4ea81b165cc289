/* Rewards: opening one by its specification, and a set of them that scores one prompt's pictures. */
#include "step/reward/reward.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/reward_internal.h"

static const char *const KINDS = "scene, scene-correct, exec:COMMAND, callback:NAME";

Reward *reward_new(const RewardSpec *spec, const char *name) {
    Reward *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->weight = spec->weight;
    const char *given = reward_option(spec, "name");
    size_t length = 0;
    for (const char *c = given ? given : name; *c && length + 8 < sizeof r->name; c++)
        r->name[length++] = isalnum((unsigned char)*c) ? (char)tolower((unsigned char)*c) : '_';
    return r;
}

int reward_check_finite(const char *who, const float *scores, int count, Error *err) {
    for (int k = 0; k < count; k++)
        if (!isfinite(scores[k]))
            return fail(err, DRPO_E_REWARD, "reward %s: score %d of %d is not a finite number", who, k + 1, count);
    return 0;
}

int reward_open(const char *text, const RewardCallback *callbacks, int n_callbacks, Reward **out, Error *err) {
    *out = NULL;
    RewardSpec spec;
    TRY(reward_spec_parse(text, &spec, err));
    int code;
    if (strcmp(spec.name, "scene") == 0 || strcmp(spec.name, "scene-correct") == 0)
        code = scene_reward_open(&spec, out, err);
    else if (strcmp(spec.name, "exec") == 0)
        code = exec_reward_open(&spec, out, err);
    else if (strcmp(spec.name, "callback") == 0)
        code = callback_reward_open(&spec, callbacks, n_callbacks, out, err);
    else
        code = fail(err, DRPO_E_USAGE, "unknown reward '%s'; there are %s", spec.name, KINDS);
    reward_spec_free(&spec);
    return code;
}

void reward_close(Reward *r) {
    if (!r) return;
    if (r->destroy) r->destroy(r);
    free(r);
}

/* ---- sets ---- */

/* Metrics are keyed by name: the second "scene" becomes "scene_2". */
static void make_unique(const RewardSet *s, Reward *r) {
    int same = 1;
    char base[sizeof r->name];
    memcpy(base, r->name, sizeof base);
    for (int k = 0; k < s->count; k++)
        if (strcmp(s->reward[k]->name, r->name) == 0) {
            snprintf(r->name, sizeof r->name, "%.50s_%d", base, ++same);
            k = -1;
        }
}

int reward_set_open(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks, RewardSet *out,
                    Error *err) {
    *out = (RewardSet){0};
    if (n < 1) return fail(err, DRPO_E_USAGE, "no reward given; there are %s", KINDS);
    if (n > MAX_REWARDS) return fail(err, DRPO_E_USAGE, "%d rewards given; at most %d", n, MAX_REWARDS);
    double sum = 0;
    int code = 0;
    for (int k = 0; k < n && code == 0; k++) {
        Reward *r = NULL;
        code = reward_open(specs[k], callbacks, n_callbacks, &r, err);
        if (code < 0) break;
        make_unique(out, r);
        out->reward[out->count++] = r;
        sum += r->weight;
    }
    if (code == 0 && !(sum > 0))
        code = fail(err, DRPO_E_USAGE, "the weights of the rewards add up to 0; give one of them a weight");
    if (code < 0) reward_set_close(out);
    return code;
}

void reward_set_close(RewardSet *s) {
    for (int k = 0; k < s->count; k++) reward_close(s->reward[k]);
    *s = (RewardSet){0};
}

int reward_set_score(RewardSet *s, const Prompt *prompt, const Pictures *pictures, float *raw, double *ensemble,
                     Error *err) {
    float weight[MAX_REWARDS];
    for (int k = 0; k < s->count; k++) {
        Reward *r = s->reward[k];
        if (r->needs_metadata && !prompt->metadata)
            return fail(err, DRPO_E_INPUT,
                        "reward %s needs the metadata of a .jsonl prompt file; the prompt '%.200s' has none", r->name,
                        prompt->text);
        TRY(r->score(r, prompt, pictures, raw + (size_t)k * (size_t)pictures->count, err));
        weight[k] = r->weight;
    }
    reward_ensemble(raw, weight, s->count, pictures->count, ensemble);
    return 0;
}
