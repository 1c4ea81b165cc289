/* The verb `pretrain`: a one-step generator of the embedded size from rendered scenes, every weight from random
 * numbers.
 *
 *     OUT/captions/       every caption of the world, and the options that shaped what follows
 *     OUT/vae/            the autoencoder, learnt from pictures of scenes
 *     OUT/text_encoder/   the text encoder, learnt from captions
 *     OUT/start/          a generator of these two whose UNet has learnt nothing
 *     OUT/run/            a run of `drpo train --mode scenes --train full` on it
 *     OUT/model/          the finished generator */
#include "pretrain/verb_pretrain.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/full_weights.h"
#include "model/unet_start.h"
#include "pretrain/captions.h"
#include "pretrain/learn.h"
#include "train/session.h"

/* What a generator of this shape takes over from the embedded one: no weights. */
static const char *const taken[] = {"model_index.json",
                                    "scheduler/scheduler_config.json",
                                    "tokenizer/merges.txt",
                                    "tokenizer/special_tokens_map.json",
                                    "tokenizer/tokenizer_config.json",
                                    "tokenizer/vocab.json"};
enum { TAKEN = sizeof taken / sizeof *taken };

static int out_of_memory(Error *err) { return fail(err, DRPO_E_MEMORY, "out of memory"); }

/* ---- what a run begins with ---- */
/* The options that vae/, text_encoder/ and start/ depend on. */
static const char *shaping_options(const Pretraining *p) {
    const Config *c = p->job->config;
    return arena_printf(p->arena, "vae-steps: %s\ntext-steps: %s\nseed: %s\n", config_text(c, OPT_PRETRAIN_VAE),
                        config_text(c, OPT_PRETRAIN_TEXT), config_text(c, OPT_SEED));
}

static int fill_captions(Pretraining *p, const char *folder, Error *err) {
    const char *path = path_join(p->arena, folder, "captions.jsonl"), *options = shaping_options(p);
    const char *beside = path_join(p->arena, folder, "options.yaml");
    char *text = NULL;
    size_t size = 0;
    if (!path || !options || !beside) return out_of_memory(err);
    TRY(file_write_atomic(beside, options, strlen(options), err));
    TRY(scene_captions(&text, &size, err));
    const int code = file_write_atomic(path, text, size, err);
    free(text);
    return code;
}

/* A pretraining that was begun with other options is not gone on with. */
static int check_options(const Pretraining *p, Error *err) {
    enum { LIMIT = 1 << 16 };
    const char *path = folder_path(p, "captions/options.yaml"), *mine = shaping_options(p);
    char *theirs;
    if (!path || !mine) return out_of_memory(err);
    TRY(file_read_text(path, LIMIT, p->arena, &theirs, NULL, err));
    if (strcmp(mine, theirs) == 0) return 0;
    for (char *c = theirs; *c; c++) *c = *c == '\n' ? ' ' : *c;
    return fail(err, DRPO_E_USAGE,
                "%s was begun with %s: give the same --vae-steps, --text-steps and --seed, or another --out", p->out,
                theirs);
}

static int fill_unet(Pretraining *p, const char *folder, Error *err) {
    Pipeline *pipeline = NULL;
    Adapter *unet = NULL;
    TRY(pipeline_open(p->base, &pipeline, err));
    int code = full_new(pipeline, &unet, err);
    if (code == 0) code = unet_start(pipeline, unet, (uint64_t)config_int(p->job->config, OPT_SEED), err);
    if (code == 0) code = full_write(unet, pipeline, folder, err);
    lora_free(unet);
    pipeline_free(pipeline);
    return code;
}

/* Everything but the UNet. */
static int copy_parts(Pretraining *p, const char *folder, Error *err) {
    const Config *c = p->job->config;
    TRY(folder_copy_all(p, p->base, folder, taken, TAKEN, err));
    TRY(folder_copy_all(p, config_int(c, OPT_PRETRAIN_VAE) ? p->out : p->base, folder, vae_files, 2, err));
    return folder_copy_all(p, config_int(c, OPT_PRETRAIN_TEXT) ? p->out : p->base, folder, text_files, 2, err);
}

static int fill_start(Pretraining *p, const char *folder, Error *err) {
    TRY(copy_parts(p, folder, err));
    return fill_unet(p, folder, err);
}

static int prepare(Pretraining *p, Error *err) {
    const Config *c = p->job->config;
    if (config_float(c, OPT_PRETRAIN_PAIR) == 0 && config_float(c, OPT_PRETRAIN_DRIFT) == 0)
        return fail(err, DRPO_E_USAGE, "--pair-weight and --drift-weight are both 0: nothing would be learnt");
    p->base = asset_find("tiny-turbo", p->arena);
    p->out = config_text(c, OPT_PRETRAIN_OUT);
    p->captions = folder_path(p, "captions/captions.jsonl");
    if (!p->base || !p->captions) return out_of_memory(err);
    TRY(dir_make(p->out, err));
    TRY(dir_lock(p->out, &p->lock, err));
    TRY(folder_make(p, "captions", false, fill_captions, err));
    TRY(check_options(p, err));
    if (config_int(c, OPT_PRETRAIN_VAE)) TRY(folder_make(p, "vae", false, learn_autoencoder, err));
    if (config_int(c, OPT_PRETRAIN_TEXT)) TRY(folder_make(p, "text_encoder", false, learn_text, err));
    return folder_make(p, "start", false, fill_start, err);
}

/* ---- the run ---- */
static const struct {
    const char *key, *value;
} fixed[] = {
    {"mode", "scenes"},
    {"train", "full"},
    {"resume", "latest"},
    {"reward", "scene"},
    {"prompt-order", captions_order},
    {"features", "latent?keys=latent_patch_8,latent_mean_4"},
    {"radii", "0.1,0.3,1"},
    {"lr-schedule", "cosine"},
    {"warmup", "100"},
    {"beta2", "0.98"},
    {"weight-decay", "0.001"},
    {"eval-prompts", "prompts/test.jsonl"},
    {"eval-limit", "60"},
    {"eval-seeds", "2"},
};

/* Options of this verb and what they are called in train. */
static const struct {
    OptionId from;
    const char *to;
} handed[] = {
    {OPT_PRETRAIN_STEPS, "steps"},
    {OPT_PRETRAIN_PROMPTS, "prompts-per-step"},
    {OPT_PRETRAIN_CANDIDATES, "candidates"},
    {OPT_PRETRAIN_LR, "lr"},
    {OPT_PRETRAIN_PAIR, "latent-l2"},
    {OPT_PRETRAIN_DRIFT, "lambda-ref"},
    {OPT_PRETRAIN_EMA, "ema"},
    {OPT_PRETRAIN_EVAL, "eval-every"},
    {OPT_PRETRAIN_SAVE, "checkpoint-every"},
    {OPT_CAPTIONS, "captions"},
    {OPT_SEED, "seed"},
    {OPT_THREADS, "threads"},
    {OPT_MEMORY, "memory"},
};

static int fill_config(const Pretraining *p, Config *c, Error *err) {
    const char *start = folder_path(p, "start"), *out = folder_path(p, "run");
    if (!start || !out) return out_of_memory(err);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        TRY(config_set(c, fixed[i].key, fixed[i].value, SOURCE_FLAG, err));
    for (size_t i = 0; i < sizeof handed / sizeof *handed; i++)
        TRY(config_set(c, handed[i].to, config_text(p->job->config, handed[i].from), SOURCE_FLAG, err));
    TRY(config_set(c, "model", start, SOURCE_FLAG, err));
    TRY(config_set(c, "prompts", p->captions, SOURCE_FLAG, err));
    TRY(config_set(c, "positives", "1", SOURCE_FLAG, err)); /* nobody is chosen */
    TRY(config_set(c, "negatives", "1", SOURCE_FLAG, err));
    return config_set(c, "out", out, SOURCE_FLAG, err);
}

static int run(const Pretraining *p, Error *err) {
    Config *c = config_new(DRPO_TRAIN);
    if (!c) return out_of_memory(err);
    int code = fill_config(p, c, err);
    if (code == 0) code = config_resolve(c, err);
    Job job = *p->job;
    job.config = c;
    if (code == 0) code = verb_train(&job, err);
    config_free(c);
    return code;
}

/* ---- what comes of it ---- */
static int fill_model(Pretraining *p, const char *folder, Error *err) {
    const char *const unet[] = {"unet/config.json", full_file};
    const char *final = folder_path(p, "run/final");
    if (!final) return out_of_memory(err);
    TRY(copy_parts(p, folder, err));
    return folder_copy_all(p, final, folder, unet, 2, err);
}

static int pretrain(Pretraining *p, Error *err) {
    TRY(prepare(p, err));
    TRY(run(p, err));
    TRY(folder_make(p, "model", true, fill_model, err));
    job_result(p->job, "%s/model", p->out);
    return 0;
}

int verb_pretrain(const Job *job, Error *err) {
    Pretraining p = {.job = job, .arena = arena_new(), .lock = -1};
    const int code = p.arena ? pretrain(&p, err) : out_of_memory(err);
    dir_unlock(&p.lock);
    arena_free(p.arena);
    return code;
}
