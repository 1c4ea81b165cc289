/* Memory: see memory.h. */
#include "train/memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/sizes.h"
#include "model/text_pass.h"
#include "train/machine.h"

/* Threads' stacks, code that oneDNN generates when a kernel first runs, buffers of pictures on their way to a file:
 * measured with the embedded generator, per thread and in all. */
static const size_t FIRST_RUN = (size_t)4 << 20, FIRST_RUN_THREAD = (size_t)1 << 20;
static const double GIB = 1073741824.0;

static size_t limit_of(const Config *c) {
    size_t given = config_has(c, OPT_MEMORY) ? config_bytes(c, OPT_MEMORY) : 0;
    if (given) return given;
    Machine m;
    machine_read(&m);
    return m.available ? m.available + (size_t)memory_now_bytes() : 0;
}

static bool folder_is_named(const Config *c) {
    return config_has(c, OPT_TEXT_CACHE) && strcmp(config_text(c, OPT_TEXT_CACHE), "auto") != 0;
}

void memory_texts(const Job *job, Session *s) {
    Error err = {0};
    if (!s->text_folder || folder_is_named(job->config)) return;
    if (dir_make(s->text_folder, &err) == 0 && access(s->text_folder, W_OK | X_OK) == 0) return;
    log_warn(&job->log,
             "%s%sencoded prompts cannot be kept in %s, so the text encoders stay in memory; name a folder with "
             "--text-cache",
             err.text, err.code ? "; " : "", s->text_folder);
    s->text_folder = NULL;
}

void memory_plan(const Session *s, const Config *c, size_t records, size_t mapped, size_t prompts,
                 const RewardMemory *rewards, MemoryPlan *out) {
    const Pipeline *p = s->pipeline;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    *out = (MemoryPlan){.process = (size_t)memory_now_bytes(),
                        .text = text_pass_pending(s->text),
                        .text_goes = s->text_folder,
                        .blocks = backend_pending(s->backend),
                        .mapped = mapped + weights_in_place(p->unet_weights, s->backend) +
                                  weights_in_place(p->vae_weights, s->backend),
                        .limit = limit_of(c)};
    size_t first = FIRST_RUN + FIRST_RUN_THREAD * (size_t)s->threads;
    out->records = records + text_pass_remembered(s->text, prompts) + first;
    if (rewards) out->rewards = *rewards;
    size_t rest = out->blocks + out->mapped + out->records + out->rewards.filled + out->rewards.mapped;
    out->peak = out->process + (out->text_goes ? max_size(out->text + first, rest) : out->text + rest);
    out->needed = out->peak > out->rewards.reread ? out->peak - out->rewards.reread : 0;
}

int memory_refuse(const MemoryPlan *m, const char *advice, Error *err) {
    return fail(err, DRPO_E_MEMORY, "this needs %.2f GiB of memory, %.2f GiB are there%s%s", (double)m->needed / GIB,
                (double)m->limit / GIB, advice[0] ? "; " : "", advice);
}

/* ---- filling it ---- */
typedef struct Progress {
    const Job *job;
    double last;
} Progress;

static int report(void *user, size_t done, size_t all, Error *err) {
    Progress *p = user;
    if (job_cancelled(p->job)) return fail(err, DRPO_E_CANCELLED, "stopped on request while prompts were encoded");
    double now = clock_seconds();
    if (done == 0) log_info(&p->job->log, "encoding %zu prompts, once", all);
    if (done && now - p->last >= 10) log_info(&p->job->log, "encoded %zu of %zu prompts", done, all);
    if (done == 0 || now - p->last >= 10) p->last = now;
    return 0;
}

/* What memory_texts could not see: the folder inside it. */
static int open_texts(const Job *job, Session *s, Error *err) {
    Error why = {0};
    const bool named = folder_is_named(job->config);
    int code = text_pass_keep(s->text, s->text_folder, named, &why);
    if (code == 0) return 0;
    if (named || code != DRPO_E_IO) return fail(err, code, "%s", why.text);
    log_warn(&job->log, "%s; the text encoders stay in memory", why.text);
    return 0;
}

int memory_commit(const Job *job, Session *s, const char *const *prompts, size_t n, Error *err) {
    Progress progress = {.job = job};
    if (s->text_folder) {
        TRY(open_texts(job, s, err));
        TRY(text_pass_prepare(s->text, prompts, n, report, &progress, err));
        const char *complaint = text_pass_complaint(s->text);
        if (complaint) log_warn(&job->log, "%s; prompts that cannot be kept are encoded as they come", complaint);
    }
    return backend_commit(s->backend, err);
}

int memory_fill(const Job *job, Session *s, const PromptList *prompts, size_t records, Error *err) {
    MemoryPlan plan;
    const char **text = arena_alloc(s->arena, sizeof *text * (prompts->count + 1));
    if (!text) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < prompts->count; i++) text[i] = prompts->items[i].text;
    memory_texts(job, s);
    memory_plan(s, job->config, records, 0, prompts->count, NULL, &plan);
    bool several = config_has(job->config, OPT_BATCH) && config_int(job->config, OPT_BATCH) > 1;
    if (plan.limit && plan.needed > plan.limit)
        return memory_refuse(&plan, several ? "--batch 1 needs least; a smaller --resolution less" : "", err);
    return memory_commit(job, s, text, prompts->count, err);
}
