/* The verb `bench`: seconds per update, phase by phase, and peak memory. The first update is not timed. `bench op`,
 * `bench drift` and `bench reward` have files of their own. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "format/json.h"
#include "train/bench.h"
#include "train/metrics.h"
#include "train/training.h"

typedef struct Timing {
    const char *dtype;
    int updates, threads, side; /* of the pictures */
    double best, median, mean;  /* seconds per update */
    double phase[PHASES];       /* mean seconds */
    double images_per_second;
    double start; /* seconds from the start of the process to its first update */
    long long peak_bytes;
} Timing;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(Training *t, int updates, Timing *out, Error *err) {
    double *seconds = calloc((size_t)updates, sizeof *seconds);
    if (!seconds) return fail(err, DRPO_E_MEMORY, "out of memory");
    StepStats stats;
    const Pipeline *p = t->session.pipeline;
    *out = (Timing){.dtype = t->session.backend->rounds ? "bf16" : "f32",
                    .updates = updates,
                    .threads = t->session.threads,
                    .side = t->options.resolution ? t->options.resolution : p->latent_size * p->factor,
                    .start = clock_process()};
    int code = training_update(t, 0, &stats, err);
    for (int i = 0; i < updates && code == 0; i++) {
        double start = clock_seconds();
        code = training_update(t, i + 1, &stats, err);
        seconds[i] = clock_seconds() - start;
        out->mean += seconds[i] / updates;
        out->images_per_second += stats.candidates / seconds[i] / updates;
        for (int k = 0; k < PHASES; k++) out->phase[k] += stats.seconds[k] / updates;
    }
    qsort(seconds, (size_t)updates, sizeof *seconds, compare_doubles);
    out->best = seconds[0];
    out->median = seconds[updates / 2];
    out->peak_bytes = memory_peak_bytes();
    free(seconds);
    return code;
}

/* One line. */
static int print_json(const Job *job, const Timing *t, Error *err) {
    const Config *c = job->config;
    json_t *phases = json_object();
    for (int p = 0; p < PHASES; p++) json_object_set_new(phases, metrics_phase(p), json_real(t->phase[p]));
    json_t *root = json_pack(
        "{s:s, s:I, s:i, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "model", config_text(c, OPT_MODEL),
        "candidates", (json_int_t)config_int(c, OPT_CANDIDATES), "side", t->side, "dtype", t->dtype, "updates",
        t->updates, "threads", t->threads, "median_seconds_per_update", t->median, "seconds_per_update", t->mean,
        "best_seconds_per_update", t->best, "images_per_second", t->images_per_second, "start_seconds", t->start,
        "peak_bytes", (json_int_t)t->peak_bytes, "phase_seconds", phases);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(6)) : NULL;
    if (text) job_result(job, "%s", text);
    int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

static int print_timing(const Job *job, const Timing *t, Error *err) {
    if (config_bool(job->config, OPT_JSON)) return print_json(job, t, err);
    job_result(job, "%.3f s per update (best %.3f), %.1f images/s, %s, %d threads, peak %.1f MiB", t->mean, t->best,
               t->images_per_second, t->dtype, t->threads, (double)t->peak_bytes / 1048576);
    job_result(job, "%.2f s from the start of the program to the first update", t->start);
    for (int p = 0; p < PHASES; p++) job_result(job, "  %-10s %8.4f s", metrics_phase(p), t->phase[p]);
    return 0;
}

static int time_updates(const Job *job, Error *err) {
    TRY(config_check(job->config, err));
    Training t;
    Timing timing = {0};
    int code = training_open(&t, job, true, err);
    if (code == 0) code = training_fit(&t, job, NULL, err);
    if (code == 0) code = training_fill(&t, job, NULL, err);
    if (code == 0) code = measure(&t, (int)config_int(job->config, OPT_BENCH_STEPS), &timing, err);
    if (code == 0) code = print_timing(job, &timing, err);
    training_close(&t);
    return code;
}

static int bench_step(const Job *job, Error *err) {
    Job shaped;
    Arena *a = arena_new();
    int code = a ? bench_shape(job, a, &shaped, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = time_updates(&shaped, err);
    arena_free(a);
    return code;
}

int verb_bench(const Job *job, Error *err) {
    static const struct {
        const char *name;
        int (*run)(const Job *job, Error *err);
    } kinds[] = {{"step", bench_step}, {"op", bench_ops}, {"drift", bench_drift}, {"reward", bench_reward}};
    int n = config_count(job->config, OPT_BENCHED);
    const char *name = n ? config_item(job->config, OPT_BENCHED, 0) : "step";
    if (n && strcmp(name, "step") != 0 && config_source(job->config, OPT_SHAPE) != SOURCE_DEFAULT)
        return fail(err, DRPO_E_USAGE, "--shape belongs to drpo bench step, not to bench %s", name);
    for (size_t i = 0; n <= 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(name, kinds[i].name) == 0) return kinds[i].run(job, err);
    return fail(err, DRPO_E_USAGE, "bench takes one of: step (an update, the default), op, drift, reward");
}
