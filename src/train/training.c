/* Training: opens model, adapter, rewards, prompts, noise and the planned update. See training.h. */
#include "train/training.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/unet_start.h"
#include "step/average.h"
#include "step/pairs.h"
#include "train/memory.h"
#include "train/stop_rules.h"

static int hash_file(const char *path, char hex[65], Error *err) {
    MappedFile f;
    TRY(file_map(path, &f, err));
    sha256_hex(f.data, f.size, hex);
    file_unmap(&f);
    return 0;
}

static int open_prompts(Training *t, const Job *job, Error *err) {
    const Config *c = job->config;
    Arena *a = t->session.arena;
    OfflineOptions offline;
    TRY(session_offline_options(c, a, &offline, err));
    const OptionId file = mode_reads_pairs(offline.mode) ? OPT_PAIRS : OPT_PROMPTS;
    TRY(session_prompts(a, t->session.pipeline, option_info(file)->key, config_text(c, file), &job->log, &t->prompts,
                        &t->prompts_path, err));
    if (file == OPT_PAIRS) TRY(pairs_check(&t->prompts, offline.folder, err));
    uint64_t seed = (uint64_t)config_int(c, OPT_SEED);
    TRY(prompt_order_new(config_text(c, OPT_PROMPT_ORDER), seed, &t->prompts, &t->order, err));
    t->prompts_per_update = (int)(config_int(c, OPT_PROMPTS_PER_STEP) * config_int(c, OPT_ACCUMULATE));
    t->batch = arena_alloc(a, sizeof *t->batch * (size_t)t->prompts_per_update);
    t->indices = arena_alloc(a, sizeof *t->indices * (size_t)t->prompts_per_update);
    if (!t->batch || !t->indices) return fail(err, DRPO_E_MEMORY, "out of memory");
    return hash_file(t->prompts_path, t->identity.prompts, err);
}

static int open_adapter(Training *t, const Config *c, Error *err) {
    TRY(adapter_create(t->session.pipeline, c, &t->adapter, err));
    const char *from = config_has(c, OPT_LORA_INIT) ? config_text(c, OPT_LORA_INIT) : "";
    if (from[0] == 0) return 0;
    Adapter *read = NULL;
    TRY(adapter_open(t->session.pipeline, from, &read, err));
    int code = lora_copy(t->adapter, read, err);
    lora_free(read);
    return code < 0 ? fail_in(err, "--lora-init %s", from) : 0;
}

/* The average starts where the adapter does. */
static int open_average(Training *t, const Config *c, Error *err) {
    t->ema = config_has(c, OPT_EMA) ? config_float(c, OPT_EMA) : 0;
    if (t->ema == 0) return 0;
    TRY(adapter_create(t->session.pipeline, c, &t->average, err));
    return lora_copy(t->average, t->adapter, err);
}

/* Touched now, so that it is counted. */
static int open_kept(Training *t, const Config *c, Error *err) {
    StopRules rules;
    if (!config_has(c, OPT_STOP_WHEN)) return 0;
    TRY(stop_rules_open(c, &rules, err));
    if (rules.count == 0) return 0;
    TRY(adapter_create(t->session.pipeline, c, &t->kept, err));
    return lora_copy(t->kept, t->adapter, err);
}

static int open_optimizer(Training *t, const Config *c, Error *err) {
    Optimizer *o = &t->optimizer;
    TRY(optimizer_allocate(o, t->adapter->count, err));
    o->lr = (float)config_float(c, OPT_LR);
    o->beta1 = (float)config_float(c, OPT_BETA1);
    o->beta2 = (float)config_float(c, OPT_BETA2);
    o->eps = (float)config_float(c, OPT_EPS);
    o->weight_decay = (float)config_float(c, OPT_WEIGHT_DECAY);
    o->clip = (float)config_float(c, OPT_CLIP);
    o->schedule = (Schedule)config_choice(c, OPT_LR_SCHEDULE);
    o->warmup = (int)config_int(c, OPT_WARMUP);
    o->total = (int)config_int(c, config_has(c, OPT_STEPS) ? OPT_STEPS : OPT_BENCH_STEPS);
    if (config_choice(c, OPT_MODE) != MODE_SCENES || !t->adapter->full) return 0;
    TRY(unet_start_shares(t->session.pipeline, t->adapter, &t->share, err));
    o->share = t->share;
    return 0;
}

/* A file of noise must last for the whole run: not every run survives to the update that lacks it. */
static int open_noise(Training *t, const Config *c, int resolution, Error *err) {
    const Pipeline *p = t->session.pipeline;
    int side;
    TRY(pipeline_latent_side(p, resolution, &side, err));
    size_t per_image = (size_t)p->latent_channels * (size_t)side * (size_t)side;
    TRY(session_noise(c, (uint64_t)config_int(c, OPT_SEED), per_image, true, &t->noise, err));
    if (!config_has(c, OPT_NOISE)) return 0;
    size_t updates = (size_t)config_int(c, OPT_STEPS), candidates = (size_t)config_int(c, OPT_CANDIDATES);
    if (config_bool(c, OPT_POOLS)) candidates *= (size_t)config_int(c, OPT_ROUNDS);
    return noise_require(t->noise, updates * (size_t)t->prompts_per_update * candidates, err);
}

int training_open(Training *t, const Job *job, bool rewards, Error *err) {
    const Config *c = job->config;
    *t = (Training){0};
    TRY(session_open(&t->session, c, err));
    TRY(session_defer(&t->session, c, err));
    memory_texts(job, &t->session);
    TRY(open_prompts(t, job, err));
    TRY(training_rewards(t, job, rewards, err));
    TRY(open_adapter(t, c, err));
    TRY(open_average(t, c, err));
    TRY(open_kept(t, c, err));
    TRY(open_optimizer(t, c, err));
    TRY(session_step_options(&t->session, c, &t->options, err));
    TRY(step_new(t->session.pipeline, t->session.backend, t->adapter, &t->options, &t->step, err));
    Pipeline *p = t->session.pipeline;
    TRY(open_noise(t, c, t->options.resolution, err));
    config_hash(c, t->identity.config);
    memcpy(t->identity.model, pipeline_sha256(p), sizeof t->identity.model);
    return 0;
}

void training_close(Training *t) {
    if (t->step) step_free(t->step);
    reward_set_close(&t->rewards);
    reward_set_close(&t->heldout);
    if (t->noise) noise_close(t->noise);
    prompt_order_free(t->order);
    optimizer_free(&t->optimizer);
    free(t->share);
    lora_free(t->adapter);
    lora_free(t->average);
    lora_free(t->kept);
    session_close(&t->session);
    *t = (Training){0};
}

Adapter *training_result(const Training *t) { return t->average ? t->average : t->adapter; }

static void refresh(Backend *b, Adapter *a) {
    for (int i = 0; a && b->refresh && i < lora_leaves(a); i++) b->refresh(b, lora_leaf(a, i).param);
}

void training_refresh(Training *t) {
    refresh(t->session.backend, t->adapter);
    refresh(t->session.backend, t->average);
}

int training_update(Training *t, long number, StepStats *stats, Error *err) {
    int n = t->prompts_per_update;
    prompt_order_pick(t->order, number, n, t->indices);
    for (int i = 0; i < n; i++) t->batch[i] = t->prompts.items[t->indices[i]];
    *stats = (StepStats){0};
    TRY(step_update(t->step, t->batch, n, number, t->noise, &t->rewards, &t->optimizer, stats, err));
    if (!t->average || stats->prompts_used == 0) return 0;
    average_update(t->average->values, t->adapter->values, t->adapter->count, t->ema, number);
    refresh(t->session.backend, t->average);
    return 0;
}
