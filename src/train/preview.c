/* Preview: base beside tuned on fixed prompts and noises. See preview.h. */
#include "train/preview.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/png.h"
#include "train/grid.h"

enum { BASE, TUNED, SIDES };

struct Preview {
    PromptList prompts;
    RewardSet *rewards;
    Sampler *sampler[SIDES];
    NoiseSource *noise;
    int seeds;           /* pictures per prompt */
    size_t latent_count; /* C*h*w */
    float *z;            /* [seeds,C,h,w] */
    uint8_t *rgb;        /* [seeds,H,W,3] */
    float *raw;          /* [rewards,seeds] */
    double *ensemble;    /* [seeds] */
    double *mean[SIDES]; /* [prompts,rewards]: mean over a prompt's pictures */
    Grid grid;
    bool has_base;
};

static int choose_prompts(Preview *p, const Job *job, Session *s, const PromptList *training, Error *err) {
    const char *name = config_text(job->config, OPT_EVAL_PROMPTS), *path = NULL;
    PromptList all = *training;
    if (name[0]) TRY(session_prompts(s->arena, s->pipeline, "eval-prompts", name, &job->log, &all, &path, err));
    if (path) TRY(job_rewards_fit(p->rewards, all.items, all.count, path, err));
    return prompts_spread(&all, (size_t)config_int(job->config, OPT_EVAL_LIMIT), s->arena, &p->prompts, err);
}

static int allocate(Preview *p, Error *err) {
    int height, width;
    sampler_size(p->sampler[BASE], &height, &width);
    size_t seeds = (size_t)p->seeds, rewards = (size_t)p->rewards->count;
    p->latent_count = sampler_noise_count(p->sampler[BASE]);
    p->z = malloc(seeds * p->latent_count * sizeof *p->z);
    p->rgb = malloc(seeds * (size_t)height * (size_t)width * 3);
    p->raw = malloc(seeds * rewards * sizeof *p->raw);
    p->ensemble = malloc(seeds * sizeof *p->ensemble);
    for (int side = 0; side < SIDES; side++) p->mean[side] = calloc(p->prompts.count * rewards, sizeof(double));
    if (!p->z || !p->rgb || !p->raw || !p->ensemble || !p->mean[BASE] || !p->mean[TUNED])
        return fail(err, DRPO_E_MEMORY, "out of memory for the evaluation");
    return grid_new(&p->grid, (int)p->prompts.count, p->seeds, SIDES, height, width, err);
}

static int open_all(Preview *p, const Job *job, Session *s, Adapter *a, const PromptList *training, Error *err) {
    const Config *c = job->config;
    p->seeds = (int)config_int(c, OPT_EVAL_SEEDS);
    TRY(choose_prompts(p, job, s, training, err));
    int batch = p->seeds < 8 ? p->seeds : 8, resolution = (int)config_int(c, OPT_RESOLUTION);
    bool released = config_choice(c, OPT_X0) == 1;
    TRY(sampler_new(s->pipeline, s->backend, NULL, batch, resolution, released, &p->sampler[BASE], err));
    TRY(sampler_new(s->pipeline, s->backend, a, batch, resolution, released, &p->sampler[TUNED], err));
    TRY(allocate(p, err));
    static const NoiseKind kinds[] = {NOISE_PHILOX, NOISE_TORCH, NOISE_TORCH_CUDA}; /* as --rng lists them */
    NoiseKind kind = kinds[config_choice(c, OPT_RNG)];
    TRY(noise_open(kind, NULL, (uint64_t)config_int(c, OPT_EVAL_SEED), p->latent_count, 0, &p->noise, err));
    noise_torch(p->noise, 0, (size_t)config_int(c, OPT_CUDA_BLOCKS));
    return 0;
}

int preview_open(const Job *job, Session *s, Adapter *a, const PromptList *training, RewardSet *rewards, Preview **out,
                 Error *err) {
    Preview *p = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "out of memory");
    p->rewards = rewards;
    int code = open_all(p, job, s, a, training, err);
    if (code < 0) {
        preview_close(p);
        return code;
    }
    *out = p;
    return 0;
}

void preview_close(Preview *p) {
    if (!p) return;
    for (int side = 0; side < SIDES; side++) {
        if (p->sampler[side]) sampler_free(p->sampler[side]);
        free(p->mean[side]);
    }
    if (p->noise) noise_close(p->noise);
    grid_free(&p->grid);
    free(p->z);
    free(p->rgb);
    free(p->raw);
    free(p->ensemble);
    free(p);
}

/* Draws and scores one prompt on one side; picture j of prompt i has noise i*seeds + j. */
static int run_prompt(Preview *p, int i, int side, Error *err) {
    const Prompt *prompt = &p->prompts.items[i];
    size_t picture = (size_t)p->grid.cell_height * (size_t)p->grid.cell_width * 3;
    TRY(noise_images(p->noise, (long)i * p->seeds, p->seeds, p->z, err));
    TRY(sampler_run(p->sampler[side], prompt->text, p->z, p->seeds, NULL, p->rgb, err));
    Pictures pictures = {p->rgb, p->seeds, p->grid.cell_height, p->grid.cell_width};
    TRY(reward_set_score(p->rewards, prompt, &pictures, p->raw, p->ensemble, err));
    for (int j = 0; j < p->seeds; j++) grid_put(&p->grid, i, side, j, p->rgb + (size_t)j * picture);
    for (int r = 0; r < p->rewards->count; r++) {
        double sum = 0;
        for (int j = 0; j < p->seeds; j++) sum += p->raw[r * p->seeds + j];
        p->mean[side][i * p->rewards->count + r] = sum / p->seeds;
    }
    return 0;
}

/* Mean over the prompts whose tag is `tag` (NULL: all) of reward r, or of the weighted rewards when r is -1. */
static double mean_of(const Preview *p, int side, int r, const char *tag) {
    double sum = 0, weights = 0;
    int n = 0;
    for (int k = 0; k < p->rewards->count; k++) weights += p->rewards->reward[k]->weight;
    for (size_t i = 0; i < p->prompts.count; i++) {
        const char *own = p->prompts.items[i].tag;
        if (tag && (!own || strcmp(own, tag) != 0)) continue;
        const double *mean = p->mean[side] + i * (size_t)p->rewards->count;
        for (int k = 0; k < p->rewards->count && r < 0; k++) sum += mean[k] * p->rewards->reward[k]->weight / weights;
        if (r >= 0) sum += mean[r];
        n++;
    }
    return n ? sum / n : NAN;
}

static json_t *both_sides(const Preview *p, int r, const char *tag) {
    return json_pack("{s:f, s:f}", "base", mean_of(p, BASE, r, tag), "tuned", mean_of(p, TUNED, r, tag));
}

static int write_line(const Preview *p, long step, Metrics *m, Error *err) {
    json_t *rewards = json_object(), *tags = json_object();
    int bad = 0;
    for (int r = 0; r < p->rewards->count; r++)
        bad |= json_object_set_new(rewards, p->rewards->reward[r]->name, both_sides(p, r, NULL));
    for (size_t i = 0; i < p->prompts.count; i++) {
        const char *tag = p->prompts.items[i].tag;
        if (tag && !json_object_get(tags, tag)) bad |= json_object_set_new(tags, tag, both_sides(p, -1, tag));
    }
    json_t *line = json_pack("{s:I, s:I, s:o, s:o, s:o}", "step", (json_int_t)step, "pictures",
                             (json_int_t)p->prompts.count * p->seeds, "reward", both_sides(p, -1, NULL), "rewards",
                             rewards, "tags", tags);
    int code = bad || !line ? fail(err, DRPO_E_MEMORY, "%s: out of memory", m->evaluations.path)
                            : jsonl_write(&m->evaluations, line, err);
    json_decref(line);
    return code;
}

static int write_grid(const Preview *p, const char *run, long step, Metrics *m, Error *err) {
    char path[PATH_MAX];
    uint8_t *png = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/eval-%06ld.png", run, step);
    TRY(grid_write(&p->grid, path, NULL, 0, err));
    TRY(png_encode_rgb(p->grid.rgb, p->grid.width, p->grid.height, NULL, 0, &png, &size, err));
    int code =
        tfevents_image(m->events, "eval/base_left_tuned_right", step, png, size, p->grid.width, p->grid.height, err);
    free(png);
    return code;
}

int preview_run(Preview *p, const char *run, long step, Metrics *m, char summary[128], Error *err) {
    for (int i = 0; i < (int)p->prompts.count; i++) {
        if (!p->has_base) TRY(run_prompt(p, i, BASE, err));
        TRY(run_prompt(p, i, TUNED, err));
    }
    p->has_base = true;
    TRY(write_line(p, step, m, err));
    TRY(write_grid(p, run, step, m, err));
    double base = mean_of(p, BASE, -1, NULL), tuned = mean_of(p, TUNED, -1, NULL);
    TRY(tfevents_scalar(m->events, "eval/reward", step, tuned, err));
    TRY(tfevents_scalar(m->events, "eval/reward_gain", step, tuned - base, err));
    snprintf(summary, 128, "evaluation at step %ld: reward %.4f (base %.4f, %+.4f) on %d pictures", step, tuned, base,
             tuned - base, (int)p->prompts.count * p->seeds);
    return tfevents_flush(m->events, err);
}
