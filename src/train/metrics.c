/* Metrics: JSON lines and TensorBoard events of a run. See metrics.h. */
#include "train/metrics.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"

static const char *const phase_names[PHASES] = {"text",   "generate", "reference", "decode",
                                                "reward", "features", "backward",  "optimizer"};

const char *metrics_phase(int phase) { return phase_names[phase]; }

int metrics_open(Metrics *m, const char *run, const Checkpoint *from, Error *err) {
    char path[PATH_MAX];
    *m = (Metrics){.updates = {.fd = -1}, .evaluations = {.fd = -1}, .candidates = {.fd = -1}};
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    TRY(jsonl_open(&m->updates, path, from->metrics_bytes, err));
    snprintf(path, sizeof path, "%s/eval.jsonl", run);
    TRY(jsonl_open(&m->evaluations, path, from->eval_bytes, err));
    snprintf(path, sizeof path, "%s/candidates.jsonl", run);
    TRY(jsonl_open(&m->candidates, path, from->candidates_bytes, err));
    m->candidates_bytes = m->candidates.offset;
    return tfevents_open(run, from->step > 0 ? from->step + 1 : 0, &m->events, err);
}

static int note_step(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text, (void)line, (void)err;
    *(long *)user = (long)json_integer_value(json_object_get(value, "step"));
    return 0;
}

int metrics_last_evaluation(const Metrics *m, long *step, Error *err) {
    *step = -1;
    return jsonl_read(m->evaluations.path, note_step, step, err);
}

int metrics_close(Metrics *m, Error *err) {
    jsonl_close(&m->updates);
    jsonl_close(&m->evaluations);
    jsonl_close(&m->candidates);
    TfEvents *events = m->events;
    m->events = NULL;
    return events ? tfevents_close(events, err) : 0;
}

int metrics_sync(Metrics *m, Error *err) {
    TRY(jsonl_sync(&m->updates, err));
    TRY(jsonl_sync(&m->evaluations, err));
    TRY(jsonl_sync(&m->candidates, err));
    return tfevents_flush(m->events, err);
}

typedef struct Number {
    const char *key, *tag; /* in the JSON line; in TensorBoard */
    double value;
} Number;

static int set(json_t *object, const char *key, json_t *value) { return json_object_set_new(object, key, value); }

/* NaN and infinity have no JSON number. */
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *agreement(const Agreement *a) {
    return json_pack("{s:o, s:o, s:o}", "kendall_tau", real(a->tau), "same_choice", real(a->chosen), "same_prompts",
                     real(a->same));
}

static int fill_line(json_t *line, long step, const Number *numbers, int n_numbers, const StepStats *s,
                     const RewardSet *rewards, const size_t *prompts, int n, double seconds) {
    json_t *raw = json_object(), *indices = json_array(), *time = json_object(), *phases = json_object();
    int bad = set(line, "step", json_integer(step));
    for (int i = 0; i < n_numbers; i++) bad |= set(line, numbers[i].key, real(numbers[i].value));
    for (int i = 0; i < rewards->count; i++) bad |= set(raw, rewards->reward[i]->name, real(s->raw_mean[i]));
    for (int i = 0; i < n; i++) bad |= json_array_append_new(indices, json_integer((json_int_t)prompts[i]));
    for (int i = 0; i < PHASES; i++) bad |= set(phases, phase_names[i], real(s->seconds[i]));
    bad |= set(line, "rewards", raw);
    bad |= set(line, "prompts_used", json_integer(s->prompts_used));
    bad |= set(line, "prompts_skipped", json_integer(s->prompts_skipped));
    bad |= set(line, "prompts_failed", json_integer(s->prompts_failed));
    bad |= set(line, "reward_faults", json_integer(s->reward_faults));
    bad |= set(line, "candidates", json_integer(s->candidates));
    if (s->agreement.prompts) bad |= set(line, "decoder_agreement", agreement(&s->agreement));
    bad |= set(line, "prompts", indices);
    bad |= set(time, "seconds", real(seconds));
    bad |= set(time, "wall", real(clock_wall()));
    bad |= set(time, "phases", phases);
    bad |= set(line, "time", time);
    return bad;
}

/* A mean over no prompt is left out. */
static int write_scalar(Metrics *m, const char *tag, long step, double value, Error *err) {
    return isfinite(value) ? tfevents_scalar(m->events, tag, step, value, err) : 0;
}

static int write_events(Metrics *m, long step, const Number *numbers, int n, const StepStats *s,
                        const RewardSet *rewards, double seconds, Error *err) {
    char tag[128];
    for (int i = 0; i < n; i++) TRY(write_scalar(m, numbers[i].tag, step, numbers[i].value, err));
    for (int i = 0; i < rewards->count; i++) {
        snprintf(tag, sizeof tag, "reward/%s", rewards->reward[i]->name);
        TRY(write_scalar(m, tag, step, s->raw_mean[i], err));
    }
    if (s->agreement.prompts) {
        TRY(write_scalar(m, "decoder_agreement/kendall_tau", step, s->agreement.tau, err));
        TRY(write_scalar(m, "decoder_agreement/same_choice", step, s->agreement.chosen, err));
        TRY(write_scalar(m, "decoder_agreement/same_prompts", step, s->agreement.same, err));
    }
    TRY(write_scalar(m, "train/prompts_failed", step, s->prompts_failed, err));
    TRY(write_scalar(m, "train/reward_faults", step, s->reward_faults, err));
    TRY(tfevents_scalar(m->events, "time/seconds_per_update", step, seconds, err));
    return tfevents_flush(m->events, err);
}

int metrics_update(Metrics *m, long step, const StepStats *s, const RewardSet *rewards, const size_t *prompts, int n,
                   double seconds, Error *err) {
    const Number numbers[] = {
        {"reward", "reward/mean", s->reward_mean},
        {"reward_std", "reward/std", s->reward_std},
        {"reward_best", "reward/best", s->reward_best},
        {"reward_worst", "reward/worst", s->reward_worst},
        {"pref_loss", "loss/preference", s->pref_loss},
        {"ref_loss", "loss/reference", s->ref_loss},
        {"feature_scale", "train/feature_scale", s->feature_scale},
        {"grad_norm", "train/grad_norm", s->grad_norm},
        {"lr", "train/lr", s->lr},
        {"diversity", "train/diversity", s->diversity},
        {"latent_distance", "train/latent_distance", s->latent_distance}, /* the last: left out without --latent-l2 */
    };
    const int n_numbers = (int)(sizeof numbers / sizeof *numbers) - !m->latent_distance;
    m->candidates_bytes = m->candidates.offset;
    json_t *line = json_object();
    int code = fill_line(line, step, numbers, n_numbers, s, rewards, prompts, n, seconds)
                   ? fail(err, DRPO_E_MEMORY, "%s: out of memory", m->updates.path)
                   : jsonl_write(&m->updates, line, err);
    json_decref(line);
    return code < 0 ? code : write_events(m, step, numbers, n_numbers, s, rewards, seconds, err);
}
