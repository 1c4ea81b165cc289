/* Children: a training run or an evaluation inside a comparison, by the functions behind the verbs. See compare.h.
 *
 * Finished work is recognised, unfinished work goes on; a folder that other options made is refused by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "compare/compare.h"
#include "train/session.h"

/* ---- whom a child talks to: the comparison's listener, with the child's name in front ---- */

typedef struct Listener {
    const Job *job;
    char label[256];
} Listener;

static void child_line(void *user, int level, const char *text) {
    const Listener *l = user;
    if (level == 2 || !l->job->log.line) return; /* the comparison has results of its own */
    char *line = NULL;
    if (asprintf(&line, "%s: %s", l->label, text) < 0) return;
    l->job->log.line(l->job->log.user, level, line);
    free(line);
}

static void child_progress(void *user, const drpo_progress *p) {
    const Listener *l = user;
    const drpo_callbacks *outer = l->job->callbacks;
    if (!outer || !outer->progress) return;
    char line[640];
    snprintf(line, sizeof line, "%s: %s", l->label, p->line);
    drpo_progress named = *p;
    named.line = line;
    outer->progress(outer->user, &named);
}

static int child_cancelled(void *user) { return job_cancelled(((const Listener *)user)->job); }

/* An evaluation beside `base`, or a training where that is NULL. */
static int run_child(const Comparison *c, Config *config, EvalBase *base, const char *label, Error *err) {
    Listener l = {.job = c->job};
    snprintf(l.label, sizeof l.label, "%s", label);
    const drpo_callbacks callbacks = {.progress = child_progress, .cancelled = child_cancelled, .user = &l};
    Job job = {.config = config,
               .log = {.line = child_line, .user = &l},
               .callbacks = &callbacks,
               .rewards = c->job->rewards,
               .n_rewards = c->job->n_rewards};
    int code = base ? verb_eval_beside(&job, base, err) : verb_train(&job, err);
    if (code >= 0) return 0;
    if (code == DRPO_E_CANCELLED && err) {
        error_clear(err);
        return fail(err, code, "stopped on request during %s; the same command goes on in %s", label, c->out);
    }
    return err ? fail_in(err, "%s", label) : code;
}

/* ---- training ---- */

/* The run in `path` must have been made with these options. */
static int check_saved(const Config *config, const char *path, Arena *a, Error *err) {
    const char *saved = path_join(a, path, "config.yaml");
    if (!saved) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (!file_exists(saved)) return 0;
    Config *run = config_new(DRPO_TRAIN);
    if (!run) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = config_load(run, saved, SOURCE_RUN, err);
    for (int i = 0; i < OPT_COUNT && code == 0; i++) {
        OptionId id = (OptionId)i;
        if (!config_has(run, id) || !(config_is_method(id) || id == OPT_STEPS)) continue;
        if (strcmp(config_text(run, id), config_text(config, id)) != 0)
            code = fail(err, DRPO_E_USAGE, "%s was made with --%s %s, not %s; choose another --out", path,
                        option_info(id)->key, config_text(run, id), config_text(config, id));
    }
    config_free(run);
    return code;
}

int child_train(Comparison *c, Config *config, const char *path, const char *label, Error *err) {
    char numbered[256];
    const char *final = path_join(c->arena, path, "final");
    if (!final) return fail(err, DRPO_E_MEMORY, "out of memory");
    c->begun++;
    TRY(session_settle_dtype(config, backend_cpu_bf16(), err));
    TRY(check_saved(config, path, c->arena, err));
    if (dir_exists(final)) return 0;
    if (job_cancelled(c->job))
        return fail(err, DRPO_E_CANCELLED, "stopped on request before %s; the same command goes on in %s", label,
                    c->out);
    snprintf(numbered, sizeof numbered, "[%d/%d] %s", c->begun, c->jobs, label);
    TRY(config_set(config, "out", path, SOURCE_FLAG, err));
    if (dir_exists(path)) TRY(config_set(config, "resume", "latest", SOURCE_FLAG, err));
    return run_child(c, config, NULL, numbered, err);
}

/* ---- evaluation ---- */

static int copy_option(const Config *from, OptionId id, Config *to, Error *err) {
    bool each = option_info(id)->type == OPTION_LIST;
    for (int k = 0; k < (each ? config_count(from, id) : 1); k++)
        TRY(config_set(to, option_info(id)->key, each ? config_item(from, id, k) : config_text(from, id), SOURCE_FILE,
                       err));
    return 0;
}

static int set_number(Config *c, const char *key, long long value, Error *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    return config_set(c, key, text, SOURCE_FLAG, err);
}

/* Networks and machine as the run had them; rewards are the comparison's, the same for all. */
static int fill_evaluation(const Comparison *c, const Config *run, const EvalPlan *plan, Config *to, Error *err) {
    for (int i = 0; i < OPT_COUNT; i++) {
        OptionId id = (OptionId)i;
        if (!config_has(to, id) || !config_has(run, id) || id == OPT_SEED || id == OPT_CONFIG) continue;
        if (id == OPT_ON_REWARD_ERROR) continue; /* a table of several runs needs every prompt */
        bool judged = id == OPT_REWARD || id == OPT_EVAL_REWARD;
        TRY(copy_option(judged ? c->job->config : run, id, to, err));
    }
    TRY(config_set(to, "prompts", plan->prompts, SOURCE_FLAG, err));
    TRY(set_number(to, "eval-limit", plan->limit, err));
    TRY(set_number(to, "seeds", plan->pictures, err));
    return set_number(to, "seed", plan->seed, err);
}

/* What decides the base's scores in an evaluation, as text. */
static const char *base_settings(const Config *e, Arena *a) {
    static const OptionId other[] = {OPT_EVAL_OUT, OPT_LORA,       OPT_THREADS, OPT_MEMORY,
                                     OPT_BATCH,    OPT_TEXT_CACHE, OPT_CONFIG,  OPT_ON_REWARD_ERROR};
    const char *text = "";
    for (int i = 0; i < OPT_COUNT && text; i++) {
        bool counts = config_has(e, (OptionId)i);
        for (size_t k = 0; k < sizeof other / sizeof *other; k++) counts = counts && (OptionId)i != other[k];
        if (counts)
            text = arena_printf(a, "%s%s: %s\n", text, option_info((OptionId)i)->key, config_text(e, (OptionId)i));
    }
    return text;
}

static bool is_evaluated(const char *settings, const char *text, Arena *a) {
    char *saved;
    return file_exists(settings) && file_read_text(settings, 1 << 20, a, &saved, NULL, NULL) == 0 &&
           strcmp(saved, text) == 0;
}

/* The base of evaluations with these settings: as it is known, or empty. */
static EvalBase *find_base(Comparison *c, const char *settings) {
    for (int k = 0; k < MAX_BASES; k++)
        if (c->base[k].settings && strcmp(c->base[k].settings, settings) == 0) return &c->base[k].half;
    KnownBase *next = &c->base[c->bases++ % MAX_BASES];
    eval_base_free(&next->half);
    next->settings = settings;
    return &next->half;
}

static int evaluate(Comparison *c, Config *e, long updates, const char *out, const char *label, Error *err) {
    Arena *a = c->arena;
    const char *of_base = base_settings(e, a), *settings = path_join(a, out, "settings.txt");
    const char *text =
        of_base ? arena_printf(a, "updates: %ld\n%s", updates, of_base) : NULL; /* made again on change */
    if (!text || !settings) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (is_evaluated(settings, text, a)) return 0;
    if (dir_exists(out)) TRY(dir_remove(out, err));
    const char *named = arena_printf(a, "%s, evaluation", label);
    if (!named) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(run_child(c, e, find_base(c, of_base), named, err));
    return file_write_atomic(settings, text, strlen(text), err); /* the last: with it the evaluation is whole */
}

int child_evaluate(Comparison *c, const Config *config, const EvalPlan *plan, const char *lora, long updates,
                   const char *out, const char *label, Error *err) {
    Config *e = config_new(DRPO_EVAL);
    if (!e) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = fill_evaluation(c, config, plan, e, err);
    if (code == 0) code = config_set(e, "lora", lora, SOURCE_FLAG, err);
    if (code == 0) code = config_set(e, "out", out, SOURCE_FLAG, err);
    if (code == 0) code = evaluate(c, e, updates, out, label, err);
    config_free(e);
    return code;
}
