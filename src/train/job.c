/* Job: results, cancellation and rewards of a verb. See job.h. */
#include "train/job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void job_result(const Job *job, const char *format, ...) {
    if (!job->log.line) return;
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) return;
    job->log.line(job->log.user, 2, text);
    free(text);
}

bool job_cancelled(const Job *job) {
    const drpo_callbacks *c = job->callbacks;
    return c && c->cancelled && c->cancelled(c->user);
}

static int specifications(const Job *job, OptionId id, const char *spec[MAX_REWARDS], Error *err) {
    int n = config_count(job->config, id);
    if (n > MAX_REWARDS)
        return fail(err, DRPO_E_USAGE, "--%s: %d rewards, at most %d are possible", option_info(id)->key, n,
                    MAX_REWARDS);
    for (int i = 0; i < n; i++) spec[i] = config_item(job->config, id, i);
    return n;
}

static void set_policy(const Job *job, RewardSet *set) {
    set->log = job->log;
    set->skip = config_has(job->config, OPT_ON_REWARD_ERROR) && config_choice(job->config, OPT_ON_REWARD_ERROR) == 1;
}

int job_rewards(const Job *job, RewardSet *out, Error *err) {
    const char *spec[MAX_REWARDS];
    int n = specifications(job, OPT_REWARD, spec, err);
    TRY(n);
    TRY(reward_set_open(spec, n, job->rewards, job->n_rewards, out, err));
    set_policy(job, out);
    return 0;
}

int job_heldout_rewards(const Job *job, RewardSet *out, Error *err) {
    const char *spec[MAX_REWARDS];
    int n = specifications(job, OPT_EVAL_REWARD, spec, err);
    TRY(n);
    TRY(reward_set_open_heldout(spec, n, job->rewards, job->n_rewards, out, err));
    set_policy(job, out);
    return 0;
}

int job_reward_networks(const Job *job, RewardSet *rewards, RewardSet *heldout, Error *why, Error *err) {
    const char *spec[MAX_REWARDS];
    int n = specifications(job, OPT_REWARD, spec, err);
    TRY(n);
    TRY(reward_set_open_networks(spec, n, rewards, why, err));
    if (!config_has(job->config, OPT_EVAL_REWARD)) return 0;
    n = specifications(job, OPT_EVAL_REWARD, spec, err);
    TRY(n);
    return reward_set_open_networks(spec, n, heldout, why, err);
}

int job_rewards_fit(const RewardSet *rewards, const Prompt *prompts, size_t n, const char *file, Error *err) {
    for (int r = 0; r < rewards->count; r++)
        for (size_t i = 0; i < n && rewards->reward[r]->needs_metadata; i++)
            if (!prompts[i].metadata)
                return fail(err, DRPO_E_INPUT,
                            "%s: reward '%s' needs GenEval metadata, which prompt %zu has not; use a .jsonl prompt "
                            "file or another reward",
                            file, rewards->reward[r]->name, i + 1);
    return 0;
}
