/* Tune: one option's value for every variant, chosen by training prompts. See compare.h.
 *
 * Each variant trains once with each value of --tune, on --tune-seed, and is judged on training prompts with noises of
 * --tune-seed + 1; neither is used for anything else, and all variants have the same number of tries. A value with
 * which training diverges has lost. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "compare/compare.h"
#include "compare/output.h"
#include "format/json.h"

/* The tuned model's mean of the metric that counts, from an evaluation's table.json. */
static int read_score(const Comparison *c, const char *folder, double *score, Error *err) {
    char path[PATH_MAX];
    json_t *root;
    snprintf(path, sizeof path, "%s/table.json", folder);
    TRY(json_load_path(path, &root, err));
    const json_t *metrics = json_object_get(root, "metrics");
    const char *name = compare_metric_name(c, json_object_get(metrics, "overall") != NULL);
    const json_t *value = json_object_get(json_object_get(metrics, name), "tuned");
    int code = json_is_number(value)
                   ? 0
                   : fail(err, DRPO_E_USAGE, "--rank-by %s: %s has no such metric (tag, overall, reward)", name, path);
    *score = json_number_value(value);
    json_decref(root);
    return code;
}

static int trial_config(const Comparison *c, const Variant *v, const char *value, Config **out, Error *err) {
    const Config *own = c->job->config;
    char seed[32];
    snprintf(seed, sizeof seed, "%lld", config_int(own, OPT_TUNE_SEED));
    TRY(variant_config(c, v, out, err));
    int code = config_set(*out, c->tuning.key, value, SOURCE_FLAG, err);
    if (code == 0) code = config_set(*out, "seed", seed, SOURCE_FLAG, err);
    if (code == 0 && config_int(own, OPT_TUNE_STEPS))
        code = config_set(*out, "steps", config_text(own, OPT_TUNE_STEPS), SOURCE_FLAG, err);
    if (code < 0) config_free(*out);
    return code;
}

/* A training that diverged leaves a note, so that it is not tried again. */
static int note_divergence(const char *path, const char *note, Error *err) {
    char text[sizeof err->text + 1];
    int n = snprintf(text, sizeof text, "%s\n", err->text);
    error_clear(err);
    TRY(dir_make(path, err));
    return file_write_atomic(note, text, (size_t)n, err);
}

static int run_trial(Comparison *c, Config *config, const char *path, const char *label, double *score, Error *err) {
    const Config *own = c->job->config;
    const EvalPlan plan = {config_text(own, OPT_PROMPTS), config_int(own, OPT_TUNE_PROMPTS),
                           config_int(own, OPT_TUNE_PICTURES), config_int(own, OPT_TUNE_SEED) + 1};
    const char *out = path_join(c->arena, path, "eval"), *note = path_join(c->arena, path, "diverged.txt");
    if (!out || !note) return fail(err, DRPO_E_MEMORY, "out of memory");
    *score = NAN;
    if (file_exists(note)) {
        c->begun++;
        return 0;
    }
    int code = child_train(c, config, path, label, err);
    if (code == DRPO_E_NUMERIC) {
        log_warn(&c->job->log, "%s", err->text);
        return note_divergence(path, note, err);
    }
    TRY(code);
    TRY(child_evaluate(c, config, &plan, path, (long)config_int(config, OPT_STEPS), out, label, err));
    return read_score(c, out, score, err);
}

static int try_value(Comparison *c, int v, int i, Error *err) {
    Tuning *t = &c->tuning;
    Trial *trial = &t->trial[v * t->values + i];
    const Variant *variant = &c->variant[v];
    const char *folder = arena_printf(c->arena, "%s-%s-%s", variant->slug, t->key, trial->value);
    const char *slug = folder ? folder_name(c->arena, folder) : NULL;
    const char *path = slug ? arena_printf(c->arena, "%s/tune/%s", c->out, slug) : NULL;
    const char *label = arena_printf(c->arena, "tuning %s, %s %s", variant->name, t->key, trial->value);
    Config *config;
    if (!path || !label) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(trial_config(c, variant, trial->value, &config, err));
    int code = run_trial(c, config, path, label, &trial->score, err);
    config_free(config);
    return code;
}

static int choose(Comparison *c, int v, Error *err) {
    Tuning *t = &c->tuning;
    const Trial *trial = &t->trial[v * t->values];
    int best = -1;
    for (int i = 0; i < t->values; i++)
        if (!isnan(trial[i].score) && (best < 0 || trial[i].score > trial[best].score)) best = i;
    if (best < 0)
        return fail(err, DRPO_E_NUMERIC, "%s diverged with every value of --tune %s", c->variant[v].name, t->key);
    t->best[v] = best;
    if (t->values > 1 && (best == 0 || best == t->values - 1))
        log_warn(&c->job->log, "%s: the best %s, %s, is the %s that was tried; a wider --tune may find a better one",
                 c->variant[v].name, t->key, trial[best].value, best ? "last" : "first");
    return variant_override(&c->variant[v], t->key, trial[best].value, err);
}

int tuning_open(Comparison *c, Error *err) {
    const Config *own = c->job->config;
    const char *text = config_text(own, OPT_TUNE), *values[MAX_TUNED];
    Tuning *t = &c->tuning;
    if (text[0] == 0) return 0;
    TRY(vary_parse(text, "tune", config_verb(own), c->arena, &t->key, values, MAX_TUNED, &t->values, err));
    size_t n = (size_t)c->variants;
    t->trial = arena_alloc(c->arena, sizeof *t->trial * n * (size_t)t->values);
    t->best = arena_alloc(c->arena, sizeof *t->best * n);
    if (!t->trial || !t->best) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int v = 0; v < c->variants; v++) {
        for (int k = 0; k < c->variant[v].overrides; k++)
            if (strcmp(c->variant[v].override[k].key, t->key) == 0)
                return fail(err, DRPO_E_USAGE, "--tune %s: %s has a %s of its own; all are tuned or none", text,
                            c->variant[v].name, t->key);
        for (int i = 0; i < t->values; i++) {
            Config *probe;
            t->trial[v * t->values + i] = (Trial){values[i], NAN};
            TRY(trial_config(c, &c->variant[v], values[i], &probe, err));
            int code = config_check(probe, err);
            config_free(probe);
            TRY(code);
        }
    }
    c->jobs += c->variants * t->values;
    return 0;
}

int compare_tune(Comparison *c, Error *err) {
    if (!c->tuning.key) return 0;
    for (int v = 0; v < c->variants; v++) {
        for (int i = 0; i < c->tuning.values; i++) TRY(try_value(c, v, i, err));
        TRY(choose(c, v, err));
    }
    return 0;
}
