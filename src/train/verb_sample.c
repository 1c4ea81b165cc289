/* The verb `sample`: pictures of prompts, each a PNG that says how it was made, and a manifest that `score` reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "format/json.h"
#include "format/jsonl.h"
#include "format/png.h"
#include "format/safetensors.h"
#include "train/memory.h"
#include "train/picture_text.h"
#include "train/session.h"

typedef struct Drawing {
    const Job *job;
    Session session;
    Adapter *adapter;
    Sampler *sampler;
    NoiseSource *noise;
    PromptList prompts;
    PictureText text;
    JsonlWriter manifest;
    int count, height, width; /* pictures per prompt, their size */
    size_t latent_count;      /* C*h*w */
    float *z, *latents;       /* [count,C,h,w] of one prompt, or of all when they are saved */
    uint8_t *rgb;             /* [count,H,W,3] */
    long per_prompt;          /* noise of prompt p begins at image p * per_prompt */
    bool own_seeds;           /* every picture has a seed of its own */
    bool single, save;        /* --out is one file; --save-latents */
    json_t *written;          /* --json: paths; else NULL */
    double opened, start;     /* seconds since the process was started, see print_json */
} Drawing;

static int collect_prompts(Drawing *d, Error *err) {
    const Config *c = d->job->config;
    Arena *a = d->session.arena;
    PromptList file = {0};
    const char *path, *name = config_text(c, OPT_SAMPLE_FILE);
    if (name[0]) TRY(session_prompts(a, d->session.pipeline, "prompts", name, &d->job->log, &file, &path, err));
    size_t given = (size_t)config_count(c, OPT_PROMPT);
    d->prompts.count = given + file.count;
    d->prompts.items = arena_alloc(a, sizeof *d->prompts.items * d->prompts.count);
    if (!d->prompts.items) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < given; i++) d->prompts.items[i].text = config_item(c, OPT_PROMPT, (int)i);
    PromptList flags = {d->prompts.items, given};
    TRY(session_check_prompts(a, d->session.pipeline, &flags, "--prompt", &d->job->log, err));
    for (size_t i = 0; i < file.count; i++) d->prompts.items[given + i] = file.items[i];
    return 0;
}

static int allocate(Drawing *d, Error *err) {
    sampler_size(d->sampler, &d->height, &d->width);
    d->latent_count = sampler_noise_count(d->sampler);
    size_t n = (size_t)d->count * (d->save ? d->prompts.count : 1);
    d->z = malloc(n * d->latent_count * sizeof *d->z);
    d->latents = malloc(n * d->latent_count * sizeof *d->latents);
    d->rgb = malloc((size_t)d->count * (size_t)d->height * (size_t)d->width * 3);
    return d->z && d->latents && d->rgb ? 0 : fail(err, DRPO_E_MEMORY, "out of memory for %d pictures", d->count);
}

static int open_output(Drawing *d, Error *err) {
    const char *out = config_text(d->job->config, OPT_SAMPLE_OUT);
    d->single = ends_with(out, ".png");
    if (d->single && (d->prompts.count > 1 || d->count > 1))
        return fail(err, DRPO_E_USAGE, "--out %s: is one file, but %zu pictures were asked for; name a folder", out,
                    d->prompts.count * (size_t)d->count);
    if (d->single) return 0;
    TRY(dir_make(out, err));
    const char *path = path_join(d->session.arena, out, "manifest.jsonl");
    return path ? jsonl_open(&d->manifest, path, 0, err) : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* Where a prompt's noise begins: rows of a file, and of the one tensor of --generator run, go on; seeds start again. */
static int open_noise(Drawing *d, Error *err) {
    const Config *c = d->job->config;
    const Generator generator = (Generator)config_choice(c, OPT_GENERATOR);
    TRY(session_noise(c, (uint64_t)config_int(c, OPT_SEED), d->latent_count, false, &d->noise, err));
    const bool file = config_text(c, OPT_NOISE)[0];
    d->own_seeds = !file && generator == GENERATOR_PICTURE;
    d->per_prompt = file || generator == GENERATOR_RUN ? d->count : 0;
    if (file) return noise_require(d->noise, d->prompts.count * (size_t)d->count, err);
    return session_generator(c, d->noise, d->prompts.count, (size_t)d->count, err);
}

/* Bytes that are allocated and not touched yet. */
static size_t records(const Drawing *d) {
    size_t n = (size_t)d->count * (d->save ? d->prompts.count : 1), picture = (size_t)d->height * (size_t)d->width * 3;
    return 2 * n * d->latent_count * sizeof(float) + (size_t)d->count * picture + sampler_records(d->sampler) +
           3 * picture; /* of which one is written as a file */
}

static int open_all(Drawing *d, Error *err) {
    const Config *c = d->job->config;
    TRY(session_open(&d->session, c, err));
    TRY(session_defer(&d->session, c, err));
    TRY(collect_prompts(d, err));
    const char *lora = config_text(c, OPT_LORA);
    if (lora[0]) TRY(adapter_open(d->session.pipeline, lora, &d->adapter, err));
    d->count = (int)config_int(c, OPT_IMAGE_COUNT);
    d->save = config_text(c, OPT_SAVE_LATENTS)[0];
    int batch = (int)config_int(c, OPT_BATCH);
    TRY(sampler_new(d->session.pipeline, d->session.backend, d->adapter, batch < d->count ? batch : d->count,
                    (int)config_int(c, OPT_RESOLUTION), config_choice(c, OPT_X0) == 1, &d->sampler, err));
    TRY(allocate(d, err));
    TRY(open_noise(d, err));
    TRY(picture_text_open(&d->text, d->session.pipeline, lora, d->session.arena, err));
    d->opened = clock_process();
    TRY(memory_fill(d->job, &d->session, &d->prompts, records(d), err));
    return open_output(d, err);
}

static int write_manifest(Drawing *d, const Prompt *prompt, const char *name, long long seed, Error *err) {
    json_t *line = NULL;
    if (prompt->metadata) TRY(json_load_text("prompt", prompt->metadata, strlen(prompt->metadata), &line, err));
    if (!line) line = json_object();
    int bad = json_object_set_new(line, "prompt", json_string(prompt->text));
    bad |= json_object_set_new(line, "image", json_string(name));
    if (seed >= 0) bad |= json_object_set_new(line, "seed", json_integer(seed));
    int code =
        bad ? fail(err, DRPO_E_MEMORY, "%s: out of memory", d->manifest.path) : jsonl_write(&d->manifest, line, err);
    json_decref(line);
    return code;
}

static int write_picture(Drawing *d, size_t prompt, int i, Error *err) {
    const Config *c = d->job->config;
    Arena *a = d->session.arena;
    long long seed = config_text(c, OPT_NOISE)[0] ? -1 : config_int(c, OPT_SEED) + (d->own_seeds ? i : 0);
    const char *out = config_text(c, OPT_SAMPLE_OUT), *text = d->prompts.items[prompt].text;
    const char *name = arena_printf(a, "%05zu-%lld.png", prompt, d->own_seeds ? seed : (long long)i);
    const char *path = d->single || !name ? out : path_join(a, out, name);
    char *parameters = picture_text(&d->text, a, text, seed, d->width, d->height);
    if (!name || !path || !parameters) return fail(err, DRPO_E_MEMORY, "out of memory");
    TextPair pair = {"parameters", parameters};
    TRY(png_write_rgb(path, d->rgb + (size_t)i * (size_t)d->height * (size_t)d->width * 3, d->width, d->height, &pair,
                      1, err));
    if (!d->single) TRY(write_manifest(d, &d->prompts.items[prompt], name, seed, err));
    if (!d->written) job_result(d->job, "%s", path);
    if (d->written && json_array_append_new(d->written, json_string(path)) != 0)
        return fail(err, DRPO_E_MEMORY, "out of memory");
    return 0;
}

static int draw_prompt(Drawing *d, size_t prompt, Error *err) {
    size_t at = d->save ? prompt * (size_t)d->count * d->latent_count : 0;
    TRY(noise_images(d->noise, (long)prompt * d->per_prompt, d->count, d->z + at, err));
    TRY(sampler_run(d->sampler, d->prompts.items[prompt].text, d->z + at, d->count, d->latents + at, d->rgb, err));
    for (int i = 0; i < d->count; i++) TRY(write_picture(d, prompt, i, err));
    return 0;
}

static int save_latents(const Drawing *d, Error *err) {
    const Pipeline *p = d->session.pipeline;
    size_t images = d->prompts.count * (size_t)d->count;
    int64_t side = d->height / p->factor;
    SafeTensor latents = {.name = "latents",
                          .dtype = DT_F32,
                          .rank = 4,
                          .dim = {(int64_t)images, p->latent_channels, side, d->width / p->factor},
                          .data = d->latents,
                          .bytes = images * d->latent_count * sizeof(float)};
    SafeTensor both[2] = {latents, latents};
    both[1].name = "noise";
    both[1].data = d->z;
    return safetensors_write(config_text(d->job->config, OPT_SAVE_LATENTS), both, 2, NULL, 0, err);
}

/* One line. Seconds since the process was started: until everything is opened and planned, until the generator's first
 * product, with prompts encoded and weights packed, and until the last picture is written. */
static int print_json(const Drawing *d, Error *err) {
    json_t *root = json_pack("{s:O, s:f, s:f, s:f, s:i, s:I}", "pictures", d->written, "opened_seconds", d->opened,
                             "start_seconds", d->start, "seconds", clock_process(), "threads", d->session.threads,
                             "peak_bytes", (json_int_t)memory_peak_bytes());
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(6)) : NULL;
    if (text) job_result(d->job, "%s", text);
    const int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

static int draw(Drawing *d, Error *err) {
    TRY(config_check(d->job->config, err));
    if (config_bool(d->job->config, OPT_JSON) && !(d->written = json_array()))
        return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(open_all(d, err));
    d->start = clock_process();
    for (size_t i = 0; i < d->prompts.count; i++) {
        if (job_cancelled(d->job))
            return fail(err, DRPO_E_CANCELLED, "stopped on request after %zu of %zu prompts", i, d->prompts.count);
        TRY(draw_prompt(d, i, err));
    }
    if (d->save) TRY(save_latents(d, err));
    return d->written ? print_json(d, err) : 0;
}

int verb_sample(const Job *job, Error *err) {
    Drawing d = {.job = job, .manifest = {.fd = -1}};
    int code = draw(&d, err);
    jsonl_close(&d.manifest);
    if (d.sampler) sampler_free(d.sampler);
    if (d.noise) noise_close(d.noise);
    if (d.adapter) lora_free(d.adapter);
    json_decref(d.written);
    free(d.z);
    free(d.latents);
    free(d.rgb);
    session_close(&d.session);
    return code;
}
