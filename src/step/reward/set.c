/* A set of rewards: scores one prompt's pictures with all of them, joins the scores, and says what a failure means. */
#include <stdio.h>
#include <string.h>

#include "step/reward/reward_internal.h"

enum { GIVE_UP_AFTER = 20 };

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

static int open_all(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks, RewardSet *out,
                    Error *err) {
    *out = (RewardSet){0};
    if (n > MAX_REWARDS) return fail(err, DRPO_E_USAGE, "%d rewards given; at most %d", n, MAX_REWARDS);
    for (int k = 0; k < n; k++) {
        Reward *r = NULL;
        TRY(reward_open(specs[k], callbacks, n_callbacks, &r, err));
        make_unique(out, r);
        out->reward[out->count++] = r;
    }
    return 0;
}

int reward_set_open(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks, RewardSet *out,
                    Error *err) {
    int code = open_all(specs, n, callbacks, n_callbacks, out, err);
    double sum = 0;
    for (int k = 0; k < out->count; k++) sum += out->reward[k]->weight;
    if (code == 0 && n < 1) code = fail(err, DRPO_E_USAGE, "no reward given; 'drpo rewards' lists what there is");
    if (code == 0 && !(sum > 0))
        code = fail(err, DRPO_E_USAGE, "the weights of the rewards add up to 0; give one of them a weight");
    if (code < 0) reward_set_close(out);
    return code;
}

static int refuse_weight(const char *text, Error *err) {
    RewardSpec spec;
    TRY(reward_spec_parse(text, &spec, err));
    const bool weighted = spec.weighted;
    reward_spec_free(&spec);
    return weighted ? fail(err, DRPO_E_USAGE, "held-out reward '%s' has a weight, but is only measured; drop it", text)
                    : 0;
}

int reward_set_open_heldout(const char *const *specs, int n, const RewardCallback *callbacks, int n_callbacks,
                            RewardSet *out, Error *err) {
    *out = (RewardSet){0};
    for (int k = 0; k < n; k++) TRY(refuse_weight(specs[k], err));
    const int code = open_all(specs, n, callbacks, n_callbacks, out, err);
    if (code < 0) reward_set_close(out);
    return code;
}

static int has_networks(const char *text, bool *has, Error *err) {
    RewardSpec spec;
    TRY(reward_spec_parse(text, &spec, err));
    const int code = reward_spec_check(&spec, err);
    if (code == 0) *has = spec.kind->networks;
    reward_spec_free(&spec);
    return code;
}

int reward_set_open_networks(const char *const *specs, int n, RewardSet *out, Error *why, Error *err) {
    *out = (RewardSet){0};
    for (int k = 0; k < n; k++) {
        bool has = false;
        Error failure = {0};
        TRY(has_networks(specs[k], &has, err));
        if (!has) continue;
        if (reward_open(specs[k], NULL, 0, &out->reward[out->count], &failure) == 0)
            out->count++;
        else if (!why->code)
            *why = failure;
    }
    return 0;
}

void reward_set_memory(const RewardSet *s, RewardMemory *sum) {
    for (int k = 0; k < s->count; k++) {
        RewardMemory m = {0};
        if (s->reward[k]->memory) s->reward[k]->memory(s->reward[k], &m);
        sum->filled += m.filled;
        sum->mapped += m.mapped;
        sum->reread += m.reread;
    }
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
        Error fault = {0};
        if (r->needs_metadata && !prompt->metadata)
            return fail(err, DRPO_E_INPUT,
                        "reward %s needs the metadata of a .jsonl prompt file; the prompt '%.200s' has none", r->name,
                        prompt->text);
        TRY(reward_score(r, prompt, pictures, raw + (size_t)k * (size_t)pictures->count, &fault, err));
        if (fault.code) log_warn(&s->log, "%s; a further attempt was answered", fault.text);
        weight[k] = r->weight;
    }
    if (ensemble) reward_ensemble(raw, weight, s->count, pictures->count, ensemble);
    s->failed_in_a_row = 0;
    return 0;
}

bool reward_set_forgive(RewardSet *s, int code, Error *err) {
    if (code != DRPO_E_REWARD || !s->skip) return false;
    if (++s->failed_in_a_row >= GIVE_UP_AFTER) {
        fail_in(err, "%d prompts in a row could not be scored", s->failed_in_a_row);
        return false;
    }
    log_warn(&s->log, "%s; the prompt is skipped", err->text);
    error_clear(err);
    return true;
}

long reward_set_faults(const RewardSet *s) {
    long sum = 0;
    for (int k = 0; k < s->count; k++) sum += atomic_load(&s->reward[k]->faults);
    return sum;
}
