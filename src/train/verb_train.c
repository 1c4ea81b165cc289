/* The verb `train`: the loop around one update. Records, evaluates, saves; stops on request without losing anything.
 *
 *     open -> (resume) -> update -> metrics -> progress -> evaluation -> checkpoint -> ... -> final/ */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "train/audit.h"
#include "train/gradients.h"
#include "train/metrics.h"
#include "train/model_card.h"
#include "train/plan_text.h"
#include "train/preview.h"
#include "train/run_folder.h"
#include "train/stop_rules.h"
#include "train/training.h"

typedef struct Loop {
    const Job *job;
    Arena *arena;
    Training training;
    RunFolder run;
    Metrics metrics;
    Preview *preview;
    StopRules rules;
    long long saved_evaluations; /* length of eval.jsonl in the newest checkpoint */
    long done, steps, saved;     /* updates done, wanted, in the newest checkpoint (-1: none) */
    double seconds;              /* of this session's updates */
    long timed;
} Loop;

static LoraMeta adapter_meta(const Loop *l, long steps) {
    const Config *c = l->job->config;
    const Pipeline *p = l->training.session.pipeline;
    int resolution = (int)config_int(c, OPT_RESOLUTION);
    return (LoraMeta){.base_model = p->name,
                      .architecture =
                          p->unet.added_text_time ? "stable-diffusion-xl-v1-base/lora" : "stable-diffusion-v2/lora",
                      .steps = steps,
                      .seed = (uint64_t)config_int(c, OPT_SEED),
                      .learning_rate = (float)config_float(c, OPT_LR),
                      .resolution = resolution ? resolution : p->latent_size * p->factor};
}

static int save_checkpoint(Loop *l, Error *err) {
    if (l->saved == l->done) return 0;
    TRY(metrics_sync(&l->metrics, err));
    Checkpoint c = {.step = l->done,
                    .identity = l->training.identity,
                    .method = step_method_state(l->training.step),
                    .metrics_bytes = l->metrics.updates.offset,
                    .eval_bytes = l->metrics.evaluations.offset,
                    .candidates_bytes = l->metrics.candidates_bytes,
                    .kept = l->rules.kept};
    LoraMeta meta = adapter_meta(l, l->done);
    RunAdapters adapters = {l->training.adapter, l->training.average, l->training.kept};
    TRY(checkpoint_write(l->run.path, &c, l->training.session.pipeline, &adapters, &meta, &l->training.optimizer, err));
    l->saved = l->done;
    l->saved_evaluations = c.eval_bytes;
    return run_prune(l->run.path, (int)config_int(l->job->config, OPT_KEEP), err);
}

static int evaluate(Loop *l, Error *err) {
    char summary[PREVIEW_SUMMARY];
    bool keep;
    TRY(preview_run(l->preview, l->run.path, l->done, &l->metrics, &l->rules, &keep, summary, err));
    log_info(&l->job->log, "%s", summary);
    return keep && l->training.kept ? lora_copy(l->training.kept, training_result(&l->training), err) : 0;
}

/* "1:05" or "2:10:03" */
static void clock_text(double seconds, char out[32]) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%ld:%02ld", s / 60, s % 60);
}

static void report_progress(Loop *l, const StepStats *s, double seconds) {
    char line[256], left[32];
    double mean = l->seconds / (double)l->timed;
    drpo_progress p = {.step = (int)l->done,
                       .steps = (int)l->steps,
                       .reward = s->reward_mean,
                       .images_per_second = seconds > 0 ? s->candidates / seconds : 0,
                       .seconds_left = mean * (double)(l->steps - l->done),
                       .line = line};
    clock_text(p.seconds_left, left);
    int n = snprintf(line, sizeof line, "step %ld/%ld", l->done, l->steps);
    if (isfinite(s->reward_mean))
        n += snprintf(line + n, sizeof line - (size_t)n, "  reward %.4f  best %.4f", s->reward_mean, s->reward_best);
    n += snprintf(line + n, sizeof line - (size_t)n, "  |grad| %.3g  %.1f images/s  %s left", s->grad_norm,
                  p.images_per_second, left);
    if (s->prompts_skipped) n += snprintf(line + n, sizeof line - (size_t)n, "  (%d skipped)", s->prompts_skipped);
    if (s->prompts_failed) snprintf(line + n, sizeof line - (size_t)n, "  (%d not scored)", s->prompts_failed);
    const drpo_callbacks *c = l->job->callbacks;
    if (c && c->progress) c->progress(c->user, &p);
}

static void report_agreement(const Loop *l, const Agreement *a) {
    if (a->prompts == 0) return;
    log_info(&l->job->log,
             "reward decoder at step %ld: Kendall's tau with the full decoder's ranking %.3f (%d of %d prompts have "
             "one); %.0f%% of the choice is the same, all of it for %.0f%% of the prompts",
             l->done, a->tau, a->ranked, a->prompts, 100 * a->chosen, 100 * a->same);
}

static bool due(long step, long long every) { return every > 0 && step % every == 0; }

static int one_update(Loop *l, Error *err) {
    const Config *c = l->job->config;
    Training *t = &l->training;
    StepStats stats;
    double start = clock_seconds();
    TRY(training_update(t, l->done, &stats, err));
    double seconds = clock_seconds() - start;
    l->done++;
    l->timed++;
    l->seconds += seconds;
    const char *dump = config_text(c, OPT_DUMP_GRADIENTS);
    if (dump[0] && l->timed == 1) TRY(gradients_write(dump, t->adapter, step_last_gradient(t->step), err));
    static const RewardSet none = {0};
    const RewardSet *scored = config_choice(c, OPT_MODE) == MODE_ONLINE ? &t->rewards : &none;
    TRY(metrics_update(&l->metrics, l->done, &stats, scored, t->indices, t->prompts_per_update, seconds, err));
    report_progress(l, &stats, seconds);
    report_agreement(l, &stats.agreement);
    if (l->preview && due(l->done, config_int(c, OPT_EVAL_EVERY))) TRY(evaluate(l, err));
    if (due(l->done, config_int(c, OPT_CHECKPOINT_EVERY))) TRY(save_checkpoint(l, err));
    return 0;
}

/* What a failed update leaves: the state before it is good, so it is saved unless the numbers themselves went wrong. */
static int after_failure(Loop *l, int code, Error *err) {
    Error saving = {0};
    if (job_cancelled(l->job)) code = DRPO_E_CANCELLED; /* Ctrl-C reaches reward processes too */
    bool sound = code == DRPO_E_REWARD || code == DRPO_E_CANCELLED;
    if (sound && l->done > 0 && save_checkpoint(l, &saving) < 0) log_warn(&l->job->log, "%s", saving.text);
    if (l->saved > 0)
        log_info(&l->job->log, "step %ld is saved; go on with: drpo train --resume latest --out %s", l->saved,
                 l->run.path);
    return code == DRPO_E_CANCELLED ? code : err->code;
}

static int stop_on_request(Loop *l, Error *err) {
    if (l->done > 0) TRY(save_checkpoint(l, err));
    if (l->saved > 0)
        return fail(err, DRPO_E_CANCELLED,
                    "stopped on request after step %ld; go on with: drpo train --resume latest --out %s", l->done,
                    l->run.path);
    return fail(err, DRPO_E_CANCELLED, "stopped on request before the first update");
}

/* The first of all; and one that failed or was cancelled after its update, which the checkpoint already holds. */
static int evaluate_at_start(Loop *l, Error *err) {
    long last = -1;
    if (!l->preview) return 0;
    if (l->done > 0 && !due(l->done, config_int(l->job->config, OPT_EVAL_EVERY))) return 0;
    TRY(metrics_last_evaluation(&l->metrics, &last, err));
    return last == l->done ? 0 : evaluate(l, err);
}

/* The checkpoint knows the evaluation that ended the run, so that a resumed run knows that it is over. */
static int stop_by_rule(Loop *l, Error *err) {
    const StopRules *s = &l->rules;
    const Log *log = &l->job->log;
    if (l->saved_evaluations != l->metrics.evaluations.offset) l->saved = -1;
    if (l->done > 0) TRY(save_checkpoint(l, err));
    log_info(log, "stopped by --stop-when %s at step %ld: %s", s->last.rules, s->step, s->last.why);
    if (s->kept < 0)
        log_warn(log, "no earlier evaluation can be kept: final/ holds the adapter of step %ld", l->done);
    else
        log_info(log,
                 "final/ holds the adapter of step %ld%s, where the reward was %.4f: the best evaluation at which "
                 "every rule held",
                 s->kept, s->kept == 0 ? ", before the first update" : "", s->kept_reward);
    log_info(log, "to go on all the same: drpo train --resume latest --out %s --stop-when off, or other rules",
             l->run.path);
    return s->kept < 0 ? 0 : lora_copy(training_result(&l->training), l->training.kept, err);
}

static int finish_updates(Loop *l, Error *err) {
    if (!l->rules.last.fired) TRY(save_checkpoint(l, err));
    /* after the checkpoint: a run that is extended later repeats it only where it is due */
    if (l->preview && !l->rules.last.fired && !due(l->done, config_int(l->job->config, OPT_EVAL_EVERY)))
        TRY(evaluate(l, err));
    if (l->rules.last.fired) TRY(stop_by_rule(l, err));
    return metrics_sync(&l->metrics, err);
}

static int run_updates(Loop *l, Error *err) {
    TRY(evaluate_at_start(l, err));
    while (l->done < l->steps && !l->rules.last.fired) {
        if (job_cancelled(l->job)) return stop_on_request(l, err);
        int code = one_update(l, err);
        if (code < 0) {
            code = after_failure(l, code, err);
            if (code != DRPO_E_CANCELLED) return code;
            error_clear(err);
            return stop_on_request(l, err);
        }
    }
    return finish_updates(l, err);
}

static int fill_result(const Loop *l, const Adapter *a, const ModelCard *card, const char *folder, Error *err) {
    LoraMeta meta = adapter_meta(l, card->steps);
    if (dir_exists(folder)) TRY(dir_remove(folder, err));
    TRY(dir_make(folder, err));
    TRY(adapter_save(a, l->training.session.pipeline, folder, &meta, err));
    return model_card_write(card, folder, err);
}

/* RUN/<name>, whole or not at all. */
static int write_result(Loop *l, const Adapter *a, const ModelCard *card, const char *name, Error *err) {
    const char *tmp = path_join(l->arena, l->run.path, ".tmp-final"), *path = path_join(l->arena, l->run.path, name);
    if (!tmp || !path) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = fill_result(l, a, card, tmp, err);
    if (code == 0 && dir_exists(path)) code = dir_remove(path, err);
    if (code == 0) code = dir_commit(tmp, path, err);
    if (code < 0)
        dir_remove(tmp, NULL);
    else if (a == training_result(&l->training))
        job_result(l->job, "%s", path);
    return code;
}

static int write_final(Loop *l, Error *err) {
    const Config *c = l->job->config;
    const Training *t = &l->training;
    char *command = config_command(c, l->arena);
    if (!command) return fail(err, DRPO_E_MEMORY, "out of memory");
    ModelCard card = {.run = l->run.path,
                      .base_model = t->session.pipeline->name,
                      .base_sha256 = t->identity.model,
                      .config_sha256 = t->identity.config,
                      .prompts = config_text(c, mode_reads_pairs(config_choice(c, OPT_MODE)) ? OPT_PAIRS : OPT_PROMPTS),
                      .prompts_sha256 = t->identity.prompts,
                      .command = command,
                      .rewards = config_text(c, OPT_REWARD),
                      .steps = l->done,
                      .rank = t->adapter->rank,
                      .alpha = t->adapter->alpha};
    const bool stopped = l->rules.last.fired && l->rules.kept >= 0;
    if (t->average) {
        card.weights = "those of the last update alone; `final/` holds their moving average";
        TRY(write_result(l, t->adapter, &card, "final-raw", err));
        card.weights = arena_printf(
            l->arena, "an exponential moving average over the updates (decay %s); `final-raw/` holds the last update's",
            config_text(c, OPT_EMA));
    }
    if (stopped) {
        card.steps = l->rules.kept;
        card.weights = arena_printf(
            l->arena, "%sthose of step %ld, the best before `--stop-when %s` ended the run at step %ld",
            t->average ? "the moving average of the weights: " : "", l->rules.kept, l->rules.last.rules, l->rules.step);
    }
    return write_result(l, training_result(t), &card, "final", err);
}

/* What an update does not come to the end of is not kept: the next checkpoint knows the length up to the last whole
 * one. */
static int record_prompt(void *user, const ScoredPrompt *p, Error *err) {
    Loop *l = user;
    const Training *t = &l->training;
    const AuditKey key = {l->done, p->slot, t->indices[p->slot], (uint64_t)config_int(l->job->config, OPT_SEED)};
    return audit_write(&l->metrics.candidates, &key, p, &t->rewards, err);
}

/* Nothing is written before everything could be opened. */
static int open_loop(Loop *l, Error *err) {
    const Job *job = l->job;
    TRY(run_folder_find(job->config, l->arena, &job->log, &l->run, err));
    bool dry = config_bool(job->config, OPT_DRY_RUN);
    if (!dry) TRY(run_folder_lock(&l->run, err));
    TRY(session_settle_dtype(job->config, backend_cpu_bf16(), err));
    TRY(config_check(job->config, err));
    TRY(training_open(&l->training, job, !dry, err));
    l->steps = (long)config_int(job->config, OPT_STEPS);
    l->saved = -1;
    TRY(stop_rules_open(job->config, &l->rules, err));
    TRY(training_fit(&l->training, job, &l->preview, err));
    return dry ? 0 : training_fill(&l->training, job, l->preview, err);
}

/* What the rules saw before. Under other rules than the run's, another evaluation may be the one to keep; only two of
 * their adapters are there. */
static int recall_rules(Loop *l, long kept, Error *err) {
    StopRules *s = &l->rules;
    Training *t = &l->training;
    TRY(stop_rules_replay(s, l->metrics.evaluations.path, kept, l->done, err));
    if (s->kept == l->done && s->kept != kept) TRY(lora_copy(t->kept, training_result(t), err));
    if (s->last.fired)
        log_info(&l->job->log, "there is nothing to go on with: a rule of --stop-when has ended the run");
    return 0;
}

static int begin_run(Loop *l, Error *err) {
    const Config *c = l->job->config;
    Training *t = &l->training;
    Checkpoint from = {0};
    if (l->run.checkpoint) {
        RunAdapters adapters = {t->adapter, t->average, t->kept};
        TRY(checkpoint_read(l->run.checkpoint, t->session.pipeline, &t->identity, &adapters, &t->optimizer, &from,
                            err));
        training_refresh(t);
        step_set_method_state(t->step, from.method);
        l->done = l->saved = from.step;
        l->saved_evaluations = from.eval_bytes;
        log_info(&l->job->log, "resuming after step %ld of %s", l->done, l->run.path);
    }
    TRY(run_folder_begin(&l->run, c, &l->job->log, err));
    const char *path = path_join(l->arena, l->run.path, "config.yaml");
    if (!path) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(config_write(c, path, err));
    TRY(metrics_open(&l->metrics, l->run.path, &from, err));
    if (l->run.checkpoint && l->rules.count) TRY(recall_rules(l, from.kept, err));
    step_observe(t->step, record_prompt, l);
    l->metrics.latent_distance = config_float(c, OPT_LATENT_L2) > 0;
    return 0;
}

static int train(Loop *l, Error *err) {
    TRY(open_loop(l, err));
    if (config_bool(l->job->config, OPT_DRY_RUN)) return plan_print(l->job, &l->training, l->preview, err);
    int code = begin_run(l, err);
    if (code == 0) code = run_updates(l, err);
    if (code == 0) code = write_final(l, err);
    if (code == 0)
        log_info(&l->job->log, "memory: peak %lld MiB, %zu planned", memory_peak_bytes() >> 20,
                 l->training.planned >> 20);
    Error closing = {0};
    if (metrics_close(&l->metrics, &closing) < 0 && code == 0) code = fail(err, closing.code, "%s", closing.text);
    if (code < 0 && l->done == 0) run_folder_undo(&l->run); /* nothing was learnt: leave nothing */
    return code;
}

int verb_train(const Job *job, Error *err) {
    Loop l = {.job = job,
              .run = {.lock = -1},
              .arena = arena_new(),
              .metrics = {.updates = {.fd = -1}, .evaluations = {.fd = -1}, .candidates = {.fd = -1}}};
    int code = l.arena ? train(&l, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    preview_close(l.preview);
    training_close(&l.training);
    run_folder_close(&l.run);
    arena_free(l.arena);
    return code;
}
