/* The verb `pretrain`: a one-step generator of the embedded size from rendered scenes.
 *
 *     OUT/start/   a generator whose UNet has learnt nothing, with the embedded one's text encoder, VAE and tokenizer;
 *                  captions.jsonl: every caption of the world
 *     OUT/run/     a run of `drpo train --mode scenes --train full` on both
 *     OUT/model/   the finished generator
 *
 * Each part is made once, whole or not at all, so that the same command goes on wherever it was stopped. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/full_weights.h"
#include "model/unet_start.h"
#include "step/reward/scene_world.h"
#include "train/session.h"

/* What a generator of this shape takes over from the embedded one. */
static const char *const folders[] = {"scheduler", "text_encoder", "tokenizer", "vae"};
static const char *const files[] = {"model_index.json",
                                    "scheduler/scheduler_config.json",
                                    "text_encoder/config.json",
                                    "text_encoder/model.safetensors",
                                    "tokenizer/merges.txt",
                                    "tokenizer/special_tokens_map.json",
                                    "tokenizer/tokenizer_config.json",
                                    "tokenizer/vocab.json",
                                    "vae/config.json",
                                    "vae/diffusion_pytorch_model.safetensors"};
enum { FOLDERS = sizeof folders / sizeof *folders, FILES = sizeof files / sizeof *files };

typedef struct Pretraining {
    const Job *job;
    Arena *arena;
    const char *base, *start, *captions, *run, *model;
} Pretraining;

static int out_of_memory(Error *err) { return fail(err, DRPO_E_MEMORY, "out of memory"); }

/* ---- folders ---- */
static int copy_file(Arena *a, const char *from, const char *to, const char *name, Error *err) {
    const char *source = path_join(a, from, name), *target = path_join(a, to, name);
    MappedFile f;
    if (!source || !target) return out_of_memory(err);
    TRY(file_map(source, &f, err));
    const int code = file_write_atomic(target, f.data, f.size, err);
    file_unmap(&f);
    return code;
}

static int copy_parts(Arena *a, const char *from, const char *to, Error *err) {
    for (int i = 0; i < FOLDERS; i++) {
        const char *folder = path_join(a, to, folders[i]);
        if (!folder) return out_of_memory(err);
        TRY(dir_make(folder, err));
    }
    for (int i = 0; i < FILES; i++) TRY(copy_file(a, from, to, files[i], err));
    return 0;
}

/* `path` is made as a whole: fill writes into a folder beside it. */
static int make_folder(Pretraining *p, const char *path, int (*fill)(Pretraining *p, const char *folder, Error *err),
                       Error *err) {
    const char *tmp = arena_printf(p->arena, "%s.tmp", path);
    if (!tmp) return out_of_memory(err);
    TRY(dir_remove(tmp, err));
    TRY(dir_make(tmp, err));
    int code = fill(p, tmp, err);
    if (code == 0 && dir_exists(path)) code = dir_remove(path, err);
    if (code == 0) code = dir_commit(tmp, path, err);
    if (code < 0) dir_remove(tmp, NULL);
    return code;
}

/* ---- what a run begins with ---- */
static int write_captions(const Pretraining *p, const char *folder, Error *err) {
    const char *path = path_join(p->arena, folder, "captions.jsonl");
    char *text = NULL;
    size_t size = 0;
    if (!path) return out_of_memory(err);
    TRY(scene_captions(&text, &size, err));
    const int code = file_write_atomic(path, text, size, err);
    free(text);
    return code;
}

static int fill_start(Pretraining *p, const char *folder, Error *err) {
    Pipeline *pipeline = NULL;
    Adapter *unet = NULL;
    TRY(copy_parts(p->arena, p->base, folder, err));
    TRY(write_captions(p, folder, err));
    TRY(pipeline_open(p->base, &pipeline, err));
    int code = full_new(pipeline, &unet, err);
    if (code == 0) code = unet_start(pipeline, unet, (uint64_t)config_int(p->job->config, OPT_SEED), err);
    if (code == 0) code = full_write(unet, pipeline, folder, err);
    lora_free(unet);
    pipeline_free(pipeline);
    return code;
}

static int prepare(Pretraining *p, Error *err) {
    const Config *c = p->job->config;
    const char *out = config_text(c, OPT_PRETRAIN_OUT);
    if (config_float(c, OPT_PRETRAIN_PAIR) == 0 && config_float(c, OPT_PRETRAIN_DRIFT) == 0)
        return fail(err, DRPO_E_USAGE, "--pair-weight and --drift-weight are both 0: nothing would be learnt");
    p->base = asset_find("tiny-turbo", p->arena);
    p->start = path_join(p->arena, out, "start");
    p->captions = path_join(p->arena, out, "start/captions.jsonl");
    p->run = path_join(p->arena, out, "run");
    p->model = path_join(p->arena, out, "model");
    if (!p->base || !p->start || !p->captions || !p->run || !p->model) return out_of_memory(err);
    TRY(dir_make(out, err));
    return dir_exists(p->start) ? 0 : make_folder(p, p->start, fill_start, err);
}

/* ---- the run ---- */
static const struct {
    const char *key, *value;
} fixed[] = {
    {"mode", "scenes"},
    {"train", "full"},
    {"resume", "latest"},
    {"reward", "scene"},
    {"prompt-order", "tags:single_object=0.08,two_object=0.17,counting=0.15,colors=0.13,position=0.27,color_attr=0.2"},
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
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        TRY(config_set(c, fixed[i].key, fixed[i].value, SOURCE_FLAG, err));
    for (size_t i = 0; i < sizeof handed / sizeof *handed; i++)
        TRY(config_set(c, handed[i].to, config_text(p->job->config, handed[i].from), SOURCE_FLAG, err));
    TRY(config_set(c, "model", p->start, SOURCE_FLAG, err));
    TRY(config_set(c, "prompts", p->captions, SOURCE_FLAG, err));
    TRY(config_set(c, "positives", "1", SOURCE_FLAG, err)); /* nobody is chosen */
    TRY(config_set(c, "negatives", "1", SOURCE_FLAG, err));
    return config_set(c, "out", p->run, SOURCE_FLAG, err);
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
    const char *unet = path_join(p->arena, folder, "unet"), *final = path_join(p->arena, p->run, "final");
    if (!unet || !final) return out_of_memory(err);
    TRY(copy_parts(p->arena, p->start, folder, err));
    TRY(dir_make(unet, err));
    TRY(copy_file(p->arena, final, folder, "unet/config.json", err));
    return copy_file(p->arena, final, folder, full_file, err);
}

static int pretrain(Pretraining *p, Error *err) {
    TRY(prepare(p, err));
    TRY(run(p, err));
    TRY(make_folder(p, p->model, fill_model, err));
    job_result(p->job, "%s", p->model);
    return 0;
}

int verb_pretrain(const Job *job, Error *err) {
    Pretraining p = {.job = job, .arena = arena_new()};
    const int code = p.arena ? pretrain(&p, err) : out_of_memory(err);
    arena_free(p.arena);
    return code;
}
