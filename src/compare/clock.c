/* Clock: what a run took, and where every run stood when the fastest variant was finished. See compare.h.
 *
 * Time is that of updates alone (`time.seconds` of metrics.jsonl), without evaluations and checkpoints, and a mean over
 * training seeds, so that a busy moment of the machine matters less: of its updates a run gets the share
 *
 *     seconds of the fastest variant / seconds of its own variant.
 *
 * With --same-time checkpoint it is judged by its last checkpoint within that share, in the middle of its learning-rate
 * schedule; with retrain it is trained anew, with a schedule that ends there. */
#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "compare/output.h"
#include "report/records.h"

static int read_metrics(const char *run, Records *out, const double **seconds, Error *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    TRY(records_read(path, out, err));
    *seconds = records_column(out, "time/seconds");
    if (*seconds) return 0;
    records_free(out);
    return fail(err, DRPO_E_INPUT, "%s: has no update; delete the folder %s, then it is made again", path, run);
}

int run_read_clock(Run *r, Error *err) {
    Records m;
    const double *seconds;
    TRY(read_metrics(r->path, &m, &seconds, err));
    const double *candidates = records_column(&m, "candidates");
    r->updates = (long)m.rows;
    r->calls = r->seconds = 0;
    for (size_t i = 0; i < m.rows; i++) {
        r->seconds += seconds[i];
        r->calls += candidates && isfinite(candidates[i]) ? candidates[i] : 0;
    }
    records_free(&m);
    return 0;
}

const char *run_adapter_by(const Run *r, long updates, Arena *a, long *made) {
    for (*made = updates; *made > 0; --*made) {
        const char *path = *made == r->updates ? arena_printf(a, "%s/final", r->path)
                                               : arena_printf(a, "%s/checkpoint-%ld", r->path, *made);
        if (path && dir_exists(path)) return path;
    }
    return NULL;
}

/* --same-time retrain: a run of its own with as many updates as fit, <name>-<seed>-timed. */
static int retrain(Comparison *c, const Run *r, Config *config, const char **adapter, Error *err) {
    char steps[32];
    const char *path = arena_printf(c->arena, "%s-timed", r->path);
    const char *label = arena_printf(c->arena, "%s, in the time of the fastest", r->label);
    if (!path || !label) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (r->timed_updates == 0) return 0;
    snprintf(steps, sizeof steps, "%ld", r->timed_updates);
    TRY(config_set(config, "steps", steps, SOURCE_FLAG, err));
    c->jobs++;
    TRY(child_train(c, config, path, label, err));
    *adapter = path;
    return 0;
}

/* `share`: of its updates that fit. */
static int find_timed(Comparison *c, Run *r, double share, Config *config, const char **adapter, Error *err) {
    *adapter = NULL;
    r->timed_updates = (long)floor((double)r->updates * share * (1 + 1e-9));
    if (r->timed_updates >= r->updates) { /* the fastest itself */
        r->timed = arena_printf(c->arena, "%s/eval", r->path);
        return r->timed ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    }
    if (config_choice(c->job->config, OPT_SAME_TIME) == TIMED_CHECKPOINT)
        *adapter = run_adapter_by(r, r->timed_updates, c->arena, &r->timed_updates);
    else
        TRY(retrain(c, r, config, adapter, err));
    r->timed = *adapter ? arena_printf(c->arena, "%s/timed", r->path) : NULL;
    return 0;
}

static int time_run(Comparison *c, int v, int s, double seconds, const EvalPlan *plan, Error *err) {
    Run *r = &c->run[v * c->seeds + s];
    const char *adapter;
    Config *config;
    char seed[32];
    r->timed_seconds = seconds;
    snprintf(seed, sizeof seed, "%lld", config_int(c->job->config, OPT_SEED) + s);
    TRY(variant_config(c, &c->variant[v], &config, err));
    int code = config_set(config, "seed", seed, SOURCE_FLAG, err);
    if (code == 0) code = find_timed(c, r, seconds / mean_seconds(c, v), config, &adapter, err);
    if (code == 0 && adapter)
        code = child_evaluate(c, config, plan, adapter, r->timed_updates, r->timed, r->label, err);
    config_free(config);
    return code;
}

int compare_at_same_time(Comparison *c, const EvalPlan *plan, Error *err) {
    double seconds = INFINITY;
    for (int v = 0; v < c->variants; v++) seconds = fmin(seconds, mean_seconds(c, v));
    for (int s = 0; s < c->seeds; s++)
        for (int v = 0; v < c->variants; v++) TRY(time_run(c, v, s, seconds, plan, err));
    return 0;
}
