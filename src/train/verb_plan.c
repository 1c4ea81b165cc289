/* The verb `plan`, and train's --dry-run. See plan_text.h. */
#include "train/plan_text.h"

#include "format/json.h"
#include "train/memory.h"

static double mib(size_t bytes) { return (double)bytes / 1048576; }

static const char *dtype_of(const Training *t) { return t->session.backend->rounds ? "bf16" : "f32"; }

static int print_json(const Job *job, const Training *t, const MemoryPlan *m, const StepPlan *p, int candidates,
                      long calls, Error *err) {
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:I}", "dtype", dtype_of(t),
        "process", (json_int_t)m->process, "text_encoders", (json_int_t)m->text, "text_encoders_released", m->text_goes,
        "blocks", (json_int_t)m->blocks, "activations", (json_int_t)p->activations, "mapped_weights",
        (json_int_t)m->mapped, "records", (json_int_t)m->records, "rewards", (json_int_t)m->rewards.filled,
        "rewards_mapped", (json_int_t)m->rewards.mapped, "peak", (json_int_t)m->peak, "needed", (json_int_t)m->needed,
        "limit", (json_int_t)m->limit, "chunk", p->chunk, "prompts_at_once", p->workers, "candidates", candidates,
        "generator_calls", (json_int_t)calls);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (text) job_result(job, "%s", text);
    int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

static const char *verdict(const MemoryPlan *m) {
    if (m->needed > m->limit) return ": too few";
    return m->peak > m->limit ? ": weights of a reward are read from disk again for every picture" : "";
}

int plan_print(const Job *job, const Training *t, const Preview *preview, Error *err) {
    const Config *c = job->config;
    StepPlan p;
    MemoryPlan m;
    step_plan(t->step, &p);
    training_plan(t, c, preview, &m);
    int k = (int)config_int(c, OPT_CANDIDATES);
    long per_update = (long)(k * config_int(c, OPT_PROMPTS_PER_STEP) * config_int(c, OPT_ACCUMULATE));
    long calls = per_update * (long)config_int(c, OPT_STEPS);
    if (config_has(c, OPT_JSON) && config_bool(c, OPT_JSON)) return print_json(job, t, &m, &p, k, calls, err);
    size_t weights = m.blocks > p.activations ? m.blocks - p.activations : 0;
    job_result(job, "products          %10s", dtype_of(t));
    job_result(job, "program, plans    %10.1f MiB", mib(m.process));
    job_result(job, "text encoders     %10.1f MiB%s", mib(m.text), m.text_goes ? ", released before the rest" : "");
    job_result(job, "weights, packed   %10.1f MiB", mib(weights));
    job_result(job, "weights in files  %10.1f MiB", mib(m.mapped));
    job_result(job, "activations       %10.1f MiB", mib(m.blocks - weights));
    job_result(job, "records           %10.1f MiB", mib(m.records));
    if (t->rewards.count + t->heldout.count) {
        job_result(job, "rewards           %10.1f MiB", mib(m.rewards.filled));
        job_result(job, "rewards in files  %10.1f MiB", mib(m.rewards.mapped));
    }
    job_result(job, "peak              %10.1f MiB", mib(m.peak));
    if (m.limit) job_result(job, "there are         %10.1f MiB%s", mib(m.limit), verdict(&m));
    job_result(job, "candidates in chunks of %d of %d, %d prompts at once; %ld pictures per update, %ld in the run",
               p.chunk, k, p.workers, per_update, calls);
    if (t->uncounted.code) job_result(job, "not counted: %s", t->uncounted.text);
    return 0;
}

int verb_plan(const Job *job, Error *err) {
    TRY(config_check(job->config, err));
    Training t;
    Preview *preview = NULL;
    int code = training_open(&t, job, false, err);
    if (code == 0) code = training_fit(&t, job, &preview, err);
    if (code == 0) code = plan_print(job, &t, preview, err);
    preview_close(preview);
    training_close(&t);
    return code;
}
