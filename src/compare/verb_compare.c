/* The verbs `compare` and `sweep`: variants, tuning, runs, evaluations, one table. See compare.h.
 *
 *     variants -> (tune) -> train and evaluate each with every seed -> (at the same time) -> table, page
 *
 * Seeds are the outer loop, so that a comparison that is stopped early has as many runs of every variant. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "compare/output.h"
#include "compare/verb_compare.h"
#include "format/json.h"

/* ---- opening ---- */

/* All options are checked before the first run is begun. */
static int check_variants(const Comparison *c, Error *err) {
    for (int v = 0; v < c->variants; v++) {
        Config *config;
        TRY(variant_config(c, &c->variant[v], &config, err));
        int code = config_check(config, err);
        config_free(config);
        if (code < 0) return fail_in(err, "%s", c->variant[v].name);
    }
    return 0;
}

static bool overlap(long long a, long long n, long long b, long long m) { return a < b + m && b < a + n; }

/* Pictures of an evaluation take a seed each: as many as there can be. */
static long long seeds_taken(long long prompts, long long pictures) { return (prompts ? prompts : 100000) * pictures; }

static int check_seeds(const Config *c, Error *err) {
    long long train = config_int(c, OPT_SEED), runs = config_int(c, OPT_RUN_SEEDS), tune = config_int(c, OPT_TUNE_SEED);
    long long test = config_int(c, OPT_TEST_SEED);
    long long n_test = seeds_taken(config_int(c, OPT_TEST_LIMIT), config_int(c, OPT_TEST_PICTURES));
    long long n_tune = 1 + seeds_taken(config_int(c, OPT_TUNE_PROMPTS), config_int(c, OPT_TUNE_PICTURES));
    if (config_text(c, OPT_TUNE)[0] && (overlap(tune, n_tune, train, runs) || overlap(tune, n_tune, test, n_test)))
        return fail(err, DRPO_E_USAGE,
                    "--tune-seed %lld: tuning takes seeds up to %lld, which --seed or --test-seed use too", tune,
                    tune + n_tune - 1);
    if (overlap(test, n_test, train, runs))
        return fail(err, DRPO_E_USAGE, "--test-seed %lld: held-out pictures take seeds that --seed %lld trains with",
                    test, train);
    return 0;
}

static int open_runs(Comparison *c, Error *err) {
    c->run = arena_alloc(c->arena, sizeof *c->run * (size_t)(c->variants * c->seeds));
    if (!c->run) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int v = 0; v < c->variants; v++)
        for (int s = 0; s < c->seeds; s++) {
            Run *r = &c->run[v * c->seeds + s];
            long long seed = config_int(c->job->config, OPT_SEED) + s;
            r->path = arena_printf(c->arena, "%s/%s-%lld", c->out, c->variant[v].slug, seed);
            r->label = arena_printf(c->arena, "%s, seed %lld", c->variant[v].name, seed);
            if (!r->path || !r->label) return fail(err, DRPO_E_MEMORY, "out of memory");
        }
    c->jobs += c->variants * c->seeds;
    return 0;
}

static int open_comparison(Comparison *c, Error *err) {
    const Config *config = c->job->config;
    c->out = config_text(config, OPT_COMPARE_OUT);
    c->seeds = (int)config_int(config, OPT_RUN_SEEDS);
    if (c->out[0] == 0) return fail(err, DRPO_E_USAGE, "--out names no folder");
    if (config_count(config, OPT_REWARD) == 0) return fail(err, DRPO_E_USAGE, "--reward is missing");
    TRY(config_verb(config) == DRPO_SWEEP ? variants_of_grid(c, err) : variants_of_methods(c, err));
    TRY(check_seeds(config, err));
    TRY(check_variants(c, err));
    TRY(tuning_open(c, err));
    TRY(open_runs(c, err));
    TRY(dir_make(c->out, err));
    return dir_lock(c->out, &c->lock, err);
}

/* ---- running ---- */

static int run_one(Comparison *c, int v, int s, const EvalPlan *plan, Error *err) {
    Run *r = &c->run[v * c->seeds + s];
    char seed[32];
    Config *config;
    snprintf(seed, sizeof seed, "%lld", config_int(c->job->config, OPT_SEED) + s);
    const char *eval = path_join(c->arena, r->path, "eval");
    if (!eval) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(variant_config(c, &c->variant[v], &config, err));
    int code = config_set(config, "seed", seed, SOURCE_FLAG, err);
    if (code == 0) code = child_train(c, config, r->path, r->label, err);
    if (code == 0) code = run_read_clock(r, err);
    if (code == 0) code = child_evaluate(c, config, plan, r->path, r->updates, eval, r->label, err);
    config_free(config);
    return code;
}

static int run_all(Comparison *c, const EvalPlan *plan, Error *err) {
    TRY(compare_tune(c, err));
    for (int s = 0; s < c->seeds; s++)
        for (int v = 0; v < c->variants; v++) TRY(run_one(c, v, s, plan, err));
    if (config_choice(c->job->config, OPT_SAME_TIME) == TIMED_OFF) return 0;
    return compare_at_same_time(c, plan, err);
}

/* ---- finding out ---- */

/* How many prompts were evaluated, by table.json of the first run. */
static int count_prompts(const Comparison *c, int *n, Error *err) {
    char path[PATH_MAX];
    json_t *root;
    snprintf(path, sizeof path, "%s/eval/table.json", c->run[0].path);
    TRY(json_load_path(path, &root, err));
    *n = (int)json_integer_value(json_object_get(root, "prompts"));
    json_decref(root);
    return 0;
}

static int read_all(const Comparison *c, bool timed, Scores *s, Error *err) {
    char path[PATH_MAX];
    for (int k = 0; k < c->seeds; k++) {
        int trained = 0; /* a variant that had made updates */
        for (int v = 0; v < c->variants; v++) {
            const Run *r = &c->run[v * c->seeds + k];
            if (timed && !r->timed) continue;
            snprintf(path, sizeof path, timed ? "%s/scores.jsonl" : "%s/eval/scores.jsonl", timed ? r->timed : r->path);
            TRY(scores_read(s, v, k, path, err));
            trained = v;
        }
        for (int v = 0; timed && v < c->variants; v++)
            if (!c->run[v * c->seeds + k].timed) scores_untrained(s, v, k, trained);
    }
    return 0;
}

static int summarise(const Comparison *c, bool timed, ScoreSummary *out, Error *err) {
    Scores s;
    int prompts;
    TRY(count_prompts(c, &prompts, err));
    TRY(scores_new(&s, c->variants, c->seeds, prompts, err));
    int code = read_all(c, timed, &s, err);
    if (code == 0) code = scores_summarise(&s, (uint64_t)config_int(c->job->config, OPT_TEST_SEED), c->arena, out, err);
    scores_free(&s);
    return code;
}

static int write_files(const Findings *f, const char *text, Error *err) {
    const Comparison *c = f->c;
    Arena *a = c->arena;
    const char *lines = path_join(a, c->out, "table.txt"), *table = path_join(a, c->out, "table.json");
    const char *page = path_join(a, c->out, "report.html");
    json_t *root = findings_json(f);
    int code = lines && table && page && root ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = file_write_atomic(lines, text, strlen(text), err);
    if (code == 0) code = json_save_path(table, root, err);
    json_decref(root);
    if (code == 0) code = findings_page(f, page, err);
    if (code == 0) log_info(&c->job->log, "%s: table.json, table.txt, report.html", c->out);
    return code;
}

static int report(const Comparison *c, Error *err) {
    Findings f = {.c = c, .has_timed = config_choice(c->job->config, OPT_SAME_TIME) != TIMED_OFF};
    TRY(summarise(c, false, &f.full, err));
    if (f.has_timed) TRY(summarise(c, true, &f.timed, err));
    f.metric = compare_metric_name(c, score_metric(&f.full, "overall") != NULL);
    if (!score_metric(&f.full, f.metric))
        return fail(err, DRPO_E_USAGE, "--rank-by %s: no such metric was measured; take a tag, overall or a reward",
                    f.metric);
    char *text = findings_text(&f);
    if (!text) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = write_files(&f, text, err);
    size_t length = strlen(text);
    if (length && text[length - 1] == '\n') text[length - 1] = 0;
    if (code == 0) job_result(c->job, "%s", text);
    free(text);
    return code;
}

static int compare(Comparison *c, Error *err) {
    const Config *config = c->job->config;
    TRY(open_comparison(c, err));
    const EvalPlan plan = {config_text(config, OPT_TEST_PROMPTS), config_int(config, OPT_TEST_LIMIT),
                           config_int(config, OPT_TEST_PICTURES), config_int(config, OPT_TEST_SEED)};
    TRY(run_all(c, &plan, err));
    return report(c, err);
}

int verb_compare(const Job *job, Error *err) {
    Comparison *c = calloc(1, sizeof *c);
    if (c) c->arena = arena_new();
    if (c) c->job = job;
    if (c) c->lock = -1;
    int code = c && c->arena ? compare(c, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    for (int k = 0; c && k < MAX_BASES; k++) eval_base_free(&c->base[k].half);
    if (c) dir_unlock(&c->lock);
    if (c) arena_free(c->arena);
    free(c);
    return code;
}

int verb_sweep(const Job *job, Error *err) { return verb_compare(job, err); }
