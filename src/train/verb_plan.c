/* The verb `plan`, and train's --dry-run. See plan_text.h. */
#include "format/json.h"
#include "train/plan_text.h"
#include "train/training.h"

static double mib(size_t bytes) { return (double)bytes / 1048576; }

static int print_json(const Job *job, const StepPlan *p, int candidates, long calls, Error *err) {
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:I}", "activations", (json_int_t)p->activations,
        "packed_weights", (json_int_t)p->packed_weights, "mapped_weights", (json_int_t)p->mapped_weights, "adapter",
        (json_int_t)p->adapter_bytes, "host", (json_int_t)p->host, "total", (json_int_t)p->total, "chunk", p->chunk,
        "prompts_at_once", p->workers, "candidates", candidates, "generator_calls", (json_int_t)calls);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (text) job_result(job, "%s", text);
    int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

int plan_print(const Job *job, const Step *step, Error *err) {
    const Config *c = job->config;
    StepPlan p;
    TRY(step_plan(step, &p));
    int k = (int)config_int(c, OPT_CANDIDATES);
    long per_update = (long)(k * config_int(c, OPT_PROMPTS_PER_STEP) * config_int(c, OPT_ACCUMULATE));
    long calls = per_update * (long)config_int(c, OPT_STEPS);
    if (config_has(c, OPT_JSON) && config_bool(c, OPT_JSON)) return print_json(job, &p, k, calls, err);
    job_result(job, "activations       %10.1f MiB", mib(p.activations));
    job_result(job, "packed weights    %10.1f MiB", mib(p.packed_weights));
    job_result(job, "mapped weights    %10.1f MiB", mib(p.mapped_weights));
    job_result(job, "adapter, moments  %10.1f MiB", mib(p.adapter_bytes));
    job_result(job, "pictures, scores  %10.1f MiB", mib(p.host));
    job_result(job, "total             %10.1f MiB", mib(p.total));
    job_result(job, "candidates in chunks of %d of %d, %d prompts at once; %ld pictures per update, %ld in the run",
               p.chunk, k, p.workers, per_update, calls);
    return 0;
}

int verb_plan(const Job *job, Error *err) {
    TRY(config_check(job->config, err));
    Training t;
    int code = training_open(&t, job, false, err);
    if (code == 0) code = plan_print(job, t.step, err);
    training_close(&t);
    return code;
}
