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

int job_rewards(const Job *job, RewardSet *out, Error *err) {
    const char *spec[MAX_REWARDS];
    int n = config_count(job->config, OPT_REWARD);
    if (n > MAX_REWARDS)
        return fail(err, DRPO_E_USAGE, "--reward: %d rewards, at most %d are possible", n, MAX_REWARDS);
    for (int i = 0; i < n; i++) spec[i] = config_item(job->config, OPT_REWARD, i);
    return reward_set_open(spec, n, job->rewards, job->n_rewards, out, err);
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
