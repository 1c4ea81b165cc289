/* Training: what a run will take in memory, whether that is there, and what would fit. See memory.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/memory.h"
#include "train/preview.h"
#include "train/training.h"

/* The moments of the optimizer; the rest of the adapter was touched when it was made. */
static size_t optimizer_bytes(const Training *t) { return 2 * t->adapter->count * sizeof(float); }

static size_t updates_of(const Config *c) {
    return (size_t)config_int(c, config_has(c, OPT_STEPS) ? OPT_STEPS : OPT_BENCH_STEPS) + 1;
}

void training_plan(const Training *t, const Config *c, const Preview *preview, MemoryPlan *out) {
    StepPlan step;
    step_plan(t->step, &step);
    size_t drawn = updates_of(c) * (size_t)t->prompts_per_update, prompts = t->prompts.count;
    if (drawn < prompts) prompts = drawn;
    size_t records = step.records + optimizer_bytes(t) + (preview ? preview_records(preview) : 0);
    if (preview) prompts += preview_prompts(preview)->count;
    RewardMemory rewards = {0};
    reward_set_memory(&t->rewards, &rewards);
    reward_set_memory(&t->heldout, &rewards);
    memory_plan(&t->session, c, records, step.mapped, prompts, &rewards, out);
}

/* ---- making it fit ---- */

/* The options with which the step is planned anew: fewer bytes for activations, so that more is computed again. False:
 * that is not what is too large, or the user has decided it. */
static bool shrink(const Training *t, const Config *c, const MemoryPlan *m, StepOptions *o) {
    StepPlan step;
    step_plan(t->step, &step);
    size_t excess = m->needed - m->limit, margin = excess / 50;
    if (config_bytes(c, OPT_MEMORY_BUDGET) || o->chunk || excess + margin >= step.budgeted) return false;
    o->memory_budget = step.budgeted - excess - margin;
    return true;
}

/* Sums are then added up in other groups: whoever compares adapters to the byte has to know. */
static void say_smaller(const Job *job, const StepOptions *o) {
    const size_t mib = o->memory_budget >> 20;
    log_warn(&job->log, "little memory: %zu MiB for activations; for the same bytes elsewhere: --memory-budget %zuM",
             mib, mib);
}

static int plan_again(Training *t, const MemoryPlan *m, Error *err) {
    step_free(t->step);
    t->step = NULL;
    const int code = step_new(t->session.pipeline, t->session.backend, t->adapter, &t->options, &t->step, err);
    if (code == DRPO_E_MEMORY) return memory_refuse(m, "recomputing everything does not save enough", err);
    return code;
}

int training_fit(Training *t, const Job *job, Preview **preview, Error *err) {
    enum { MOST_TRIES = 4 };
    const Config *c = job->config;
    MemoryPlan m;
    int tries = 0;
    for (;; tries++) {
        if (preview && config_int(c, OPT_EVAL_EVERY)) TRY(preview_open(job, t, preview, err));
        training_plan(t, c, preview ? *preview : NULL, &m);
        if (tries == MOST_TRIES || m.limit == 0 || m.needed <= m.limit || !shrink(t, c, &m, &t->options)) break;
        if (preview) preview_close(*preview); /* it works in the step's memory */
        if (preview) *preview = NULL;
        TRY(plan_again(t, &m, err));
    }
    if (tries > 0) say_smaller(job, &t->options);
    return 0;
}

/* ---- saying what would fit ---- */

/* Peak with another chunk, from the difference of the activations. */
static bool chunk_fits(const Training *t, const MemoryPlan *m, int chunk) {
    StepPlan step;
    size_t bytes, now;
    Error err = {0};
    step_plan(t->step, &step);
    if (step_measure(t->step, step.chunk, &now, &err) < 0 || step_measure(t->step, chunk, &bytes, &err) < 0)
        return false;
    size_t less = (now - bytes) * (size_t)step.workers;
    return bytes < now && m->needed - m->limit <= less;
}

static int largest_chunk(const Training *t, const MemoryPlan *m, int from) {
    int low = 0, high = from;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (chunk_fits(t, m, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int refuse(const Training *t, const Config *c, const MemoryPlan *m, Error *err) {
    char advice[160];
    StepPlan step;
    step_plan(t->step, &step);
    size_t excess = m->needed - m->limit;
    int k = (int)config_int(c, OPT_CANDIDATES), chunk = 0, fewer = 0;
    if (config_int(c, OPT_CHUNK) > 1) chunk = largest_chunk(t, m, step.chunk);
    if (step.per_candidate && excess / step.per_candidate < (size_t)k)
        fewer = k - 1 - (int)(excess / step.per_candidate);
    if (chunk)
        snprintf(advice, sizeof advice, "--chunk %d is the largest that fits", chunk);
    else if (config_bytes(c, OPT_MEMORY_BUDGET) > excess)
        snprintf(advice, sizeof advice, "leave --memory-budget out or lower it by %zu MiB", (excess >> 20) + 1);
    else if (fewer >= 2)
        snprintf(advice, sizeof advice, "--candidates %d is the most that fits", fewer);
    else
        snprintf(advice, sizeof advice, "the model itself leaves no room: not even two candidates fit");
    return memory_refuse(m, advice, err);
}

/* ---- filling it ---- */

/* Prompts of all updates, and those of the evaluation; NULL: out of memory. */
static const char **all_texts(const Training *t, const Config *c, const Preview *preview, size_t *n) {
    const PromptList *more = preview ? preview_prompts(preview) : NULL;
    size_t count = t->prompts.count, at_once = (size_t)t->prompts_per_update;
    const char **text = arena_alloc(t->session.arena, sizeof *text * (count + (more ? more->count : 0) + 1));
    bool *drawn = arena_alloc(t->session.arena, count + 1);
    *n = 0;
    if (!text || !drawn) return NULL;
    size_t updates = t->session.text_folder ? updates_of(c) : 0; /* else they are encoded as they come */
    for (size_t u = 0; u < updates && *n < count; u++) {
        prompt_order_pick(t->order, (long)u, (int)at_once, t->indices);
        for (size_t i = 0; i < at_once; i++) {
            if (drawn[t->indices[i]]) continue;
            drawn[t->indices[i]] = true;
            text[(*n)++] = t->prompts.items[t->indices[i]].text;
        }
    }
    for (size_t i = 0; more && i < more->count; i++) text[(*n)++] = more->items[i].text;
    return text;
}

int training_fill(Training *t, const Job *job, const Preview *preview, Error *err) {
    MemoryPlan m;
    size_t n;
    training_plan(t, job->config, preview, &m);
    t->planned = m.peak;
    if (m.limit && m.needed > m.limit) return refuse(t, job->config, &m, err);
    const char **text = all_texts(t, job->config, preview, &n);
    if (!text) return fail(err, DRPO_E_MEMORY, "out of memory");
    return memory_commit(job, &t->session, text, n, err);
}
