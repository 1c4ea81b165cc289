/* Preview: base beside tuned on fixed prompts and noises. See preview.h. */
#include "train/preview.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/png.h"
#include "train/gauging.h"
#include "train/grid.h"

enum { BASE, TUNED, SIDES };

struct Preview {
    PromptList prompts;
    RewardSet *rewards, *heldout;
    int measured; /* rewards, then those held out */
    Sampler *sampler[SIDES];
    NoiseSource *noise;
    int seeds;           /* pictures per prompt */
    size_t latent_count; /* C*h*w */
    float *z;            /* [seeds,C,h,w] */
    float *latents;      /* likewise, finished */
    uint8_t *rgb, *base; /* [seeds,H,W,3]; of the base at the same prompt */
    Gauging *gauges;
    float *raw;          /* [measured,seeds] */
    double *mean[SIDES]; /* [prompts,measured]: mean over a prompt's pictures; NaN: not scored */
    Grid grid;
};

static int choose_prompts(Preview *p, const Job *job, Session *s, const PromptList *training, Error *err) {
    const char *name = config_text(job->config, OPT_EVAL_PROMPTS), *path = NULL;
    PromptList all = *training;
    if (name[0]) TRY(session_prompts(s->arena, s->pipeline, "eval-prompts", name, &job->log, &all, &path, err));
    if (!path) path = "--prompts";
    TRY(job_rewards_fit(p->rewards, all.items, all.count, path, err));
    TRY(job_rewards_fit(p->heldout, all.items, all.count, path, err));
    return prompts_spread(&all, (size_t)config_int(job->config, OPT_EVAL_LIMIT), s->arena, &p->prompts, err);
}

static int allocate(Preview *p, Error *err) {
    int height, width;
    sampler_size(p->sampler[BASE], &height, &width);
    size_t seeds = (size_t)p->seeds, measured = (size_t)p->measured, means = p->prompts.count * measured;
    p->latent_count = sampler_noise_count(p->sampler[BASE]);
    p->z = malloc(seeds * p->latent_count * sizeof *p->z);
    p->latents = malloc(seeds * p->latent_count * sizeof *p->latents);
    p->rgb = malloc(seeds * (size_t)height * (size_t)width * 3);
    p->base = malloc(seeds * (size_t)height * (size_t)width * 3);
    p->raw = malloc(seeds * measured * sizeof *p->raw);
    for (int side = 0; side < SIDES; side++) p->mean[side] = malloc(means * sizeof(double));
    if (!p->z || !p->latents || !p->rgb || !p->base || !p->raw || !p->mean[BASE] || !p->mean[TUNED])
        return fail(err, DRPO_E_MEMORY, "out of memory for the evaluation");
    for (size_t i = 0; i < means; i++) p->mean[BASE][i] = p->mean[TUNED][i] = NAN;
    return grid_new(&p->grid, (int)p->prompts.count, p->seeds, SIDES, height, width, err);
}

static int open_all(Preview *p, const Job *job, Training *t, Error *err) {
    const Config *c = job->config;
    Session *s = &t->session;
    p->seeds = (int)config_int(c, OPT_EVAL_SEEDS);
    TRY(choose_prompts(p, job, s, &t->prompts, err));
    int batch = p->seeds < 8 ? p->seeds : 8, resolution = (int)config_int(c, OPT_RESOLUTION);
    bool released = config_choice(c, OPT_X0) == 1;
    Adapter *adapter[SIDES] = {NULL, training_result(t)};
    Scratch scratch = step_scratch(t->step);
    for (int side = 0; side < SIDES; side++)
        TRY(sampler_new_at(s->pipeline, s->backend, adapter[side], batch, resolution, released, &scratch,
                           &p->sampler[side], err));
    TRY(allocate(p, err));
    static const NoiseKind kinds[] = {NOISE_PHILOX, NOISE_TORCH, NOISE_TORCH_CUDA}; /* as --rng lists them */
    NoiseKind kind = kinds[config_choice(c, OPT_RNG)];
    TRY(noise_open(kind, NULL, (uint64_t)config_int(c, OPT_EVAL_SEED), p->latent_count, 0, &p->noise, err));
    noise_torch(p->noise, 0, (size_t)config_int(c, OPT_CUDA_BLOCKS));
    return gauging_new(t->step, (int)p->prompts.count, p->seeds, p->latent_count,
                       (uint64_t)config_int(c, OPT_EVAL_SEED), &p->gauges, err);
}

int preview_open(const Job *job, Training *t, Preview **out, Error *err) {
    Preview *p = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "out of memory");
    p->rewards = &t->rewards;
    p->heldout = &t->heldout;
    p->measured = p->rewards->count + p->heldout->count;
    int code = open_all(p, job, t, err);
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
    gauging_free(p->gauges);
    grid_free(&p->grid);
    free(p->z);
    free(p->latents);
    free(p->rgb);
    free(p->base);
    free(p->raw);
    free(p);
}

const PromptList *preview_prompts(const Preview *p) { return &p->prompts; }

size_t preview_records(const Preview *p) {
    size_t grid = (size_t)p->grid.height * (size_t)p->grid.width * 3, seeds = (size_t)p->seeds;
    size_t picture = (size_t)p->grid.cell_height * (size_t)p->grid.cell_width * 3;
    return 2 * seeds * (p->latent_count * sizeof(float) + picture) + sampler_records(p->sampler[BASE]) +
           sampler_records(p->sampler[TUNED]) + gauging_records(p->gauges) + grid / 2; /* as a file in memory */
}

/* What no reward could score stays NaN, and its other side counts for nothing either. */
static int score_prompt(Preview *p, int i, int side, const Pictures *pictures, Error *err) {
    const Prompt *prompt = &p->prompts.items[i];
    RewardSet *failing = p->rewards;
    double *mean = p->mean[side] + i * p->measured;
    for (int r = 0; r < p->measured; r++) mean[r] = NAN;
    int code = reward_set_score(p->rewards, prompt, pictures, p->raw, NULL, err);
    if (code == 0) {
        failing = p->heldout;
        code = reward_set_score(p->heldout, prompt, pictures, p->raw + p->rewards->count * p->seeds, NULL, err);
    }
    if (code < 0) return reward_set_forgive(failing, code, err) ? 0 : code;
    for (int r = 0; r < p->measured; r++) {
        double sum = 0;
        for (int j = 0; j < p->seeds; j++) sum += p->raw[r * p->seeds + j];
        mean[r] = sum / p->seeds;
    }
    return 0;
}

static int gauge_prompt(Preview *p, int i, int side, const Pictures *pictures, Error *err) {
    const Prompt *prompt = &p->prompts.items[i];
    const size_t picture = (size_t)pictures->height * (size_t)pictures->width * 3;
    if (side == BASE) return gauging_base(p->gauges, i, prompt, p->latents, pictures, err);
    for (int j = 0; j < p->seeds; j++) grid_get(&p->grid, i, BASE, j, p->base + (size_t)j * picture);
    return gauging_tuned(p->gauges, i, prompt, p->latents, pictures, p->base, err);
}

/* Draws, gauges and scores one prompt on one side; picture j of prompt i has noise i*seeds + j. */
static int run_prompt(Preview *p, int i, int side, Error *err) {
    const Prompt *prompt = &p->prompts.items[i];
    size_t picture = (size_t)p->grid.cell_height * (size_t)p->grid.cell_width * 3;
    TRY(noise_images(p->noise, (long)i * p->seeds, p->seeds, p->z, err));
    TRY(sampler_run(p->sampler[side], prompt->text, p->z, p->seeds, p->latents, p->rgb, err));
    Pictures pictures = {p->rgb, p->seeds, p->grid.cell_height, p->grid.cell_width};
    for (int j = 0; j < p->seeds; j++) grid_put(&p->grid, i, side, j, p->rgb + (size_t)j * picture);
    TRY(gauge_prompt(p, i, side, &pictures, err));
    return score_prompt(p, i, side, &pictures, err);
}

/* Of prompt i: reward r, or the weighted rewards when r is -1. */
static double mean_of_prompt(const Preview *p, int side, size_t i, int r) {
    const double *mean = p->mean[side] + i * (size_t)p->measured;
    double sum = 0, weights = 0;
    if (r >= 0) return mean[r];
    for (int k = 0; k < p->rewards->count; k++) {
        sum += mean[k] * p->rewards->reward[k]->weight;
        weights += p->rewards->reward[k]->weight;
    }
    return sum / weights;
}

/* Mean over the prompts whose tag is `tag` (NULL: all) and which were scored on both sides; NaN: there are none. */
static double mean_of(const Preview *p, int side, int r, const char *tag) {
    double sum = 0;
    int n = 0;
    for (size_t i = 0; i < p->prompts.count; i++) {
        const char *own = p->prompts.items[i].tag;
        const double both[SIDES] = {mean_of_prompt(p, BASE, i, r), mean_of_prompt(p, TUNED, i, r)};
        if ((tag && (!own || strcmp(own, tag) != 0)) || !isfinite(both[BASE]) || !isfinite(both[TUNED])) continue;
        sum += both[side];
        n++;
    }
    return n ? sum / n : NAN;
}

static json_t *number_or_null(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *both_sides(const Preview *p, int r, const char *tag) {
    return json_pack("{s:o, s:o}", "base", number_or_null(mean_of(p, BASE, r, tag)), "tuned",
                     number_or_null(mean_of(p, TUNED, r, tag)));
}

/* Rewards `from` to `to` of all that are measured, by name. */
static json_t *by_name(const Preview *p, const RewardSet *set, int from) {
    json_t *object = json_object();
    int bad = 0;
    for (int r = 0; r < set->count; r++)
        bad |= json_object_set_new(object, set->reward[r]->name, both_sides(p, from + r, NULL));
    if (!bad) return object;
    json_decref(object);
    return NULL;
}

static json_t *make_line(const Preview *p, long step) {
    json_t *tags = json_object();
    int bad = 0, failed = 0;
    for (size_t i = 0; i < p->prompts.count; i++) {
        const char *tag = p->prompts.items[i].tag;
        failed += !isfinite(mean_of_prompt(p, BASE, i, -1)) || !isfinite(mean_of_prompt(p, TUNED, i, -1));
        if (tag && !json_object_get(tags, tag)) bad |= json_object_set_new(tags, tag, both_sides(p, -1, tag));
    }
    json_t *line =
        json_pack("{s:I, s:I, s:o, s:o}", "step", (json_int_t)step, "pictures", (json_int_t)p->prompts.count * p->seeds,
                  "reward", both_sides(p, -1, NULL), "rewards", by_name(p, p->rewards, 0));
    if (p->heldout->count) bad |= json_object_set_new(line, "heldout", by_name(p, p->heldout, p->rewards->count));
    bad |= json_object_set_new(line, "gauges", gauging_json(p->gauges));
    bad |= json_object_set_new(line, "tags", tags);
    if (failed) bad |= json_object_set_new(line, "prompts_failed", json_integer(failed));
    if (!bad) return line;
    json_decref(line);
    return NULL;
}

static int write_line(const Preview *p, long step, Metrics *m, StopRules *rules, bool *keep, Error *err) {
    json_t *line = make_line(p, step);
    *keep = line && stop_rules_judge(rules, line);
    const bool bad = !line || (rules->last.fired && json_object_set_new(line, "stop", stop_rules_json(rules)) < 0);
    int code = bad ? fail(err, DRPO_E_MEMORY, "%s: out of memory", m->evaluations.path)
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

static int write_events(const Preview *p, long step, Metrics *m, Error *err) {
    char tag[128];
    double base = mean_of(p, BASE, -1, NULL), tuned = mean_of(p, TUNED, -1, NULL);
    if (isfinite(tuned)) TRY(tfevents_scalar(m->events, "eval/reward", step, tuned, err));
    if (isfinite(tuned)) TRY(tfevents_scalar(m->events, "eval/reward_gain", step, tuned - base, err));
    for (int r = 0; r < p->heldout->count; r++) {
        double value = mean_of(p, TUNED, p->rewards->count + r, NULL);
        snprintf(tag, sizeof tag, "eval/heldout/%s", p->heldout->reward[r]->name);
        if (isfinite(value)) TRY(tfevents_scalar(m->events, tag, step, value, err));
    }
    return gauging_events(p->gauges, step, m->events, err);
}

static void summarise(const Preview *p, long step, char summary[PREVIEW_SUMMARY]) {
    double base = mean_of(p, BASE, -1, NULL), tuned = mean_of(p, TUNED, -1, NULL);
    int n = snprintf(summary, PREVIEW_SUMMARY, "evaluation at step %ld: reward %.4f (base %.4f, %+.4f)", step, tuned,
                     base, tuned - base);
    for (int r = 0; r < p->heldout->count && n < 160; r++) {
        base = mean_of(p, BASE, p->rewards->count + r, NULL);
        tuned = mean_of(p, TUNED, p->rewards->count + r, NULL);
        n += snprintf(summary + n, PREVIEW_SUMMARY - (size_t)n, ", held-out %s %.4f (%+.4f)",
                      p->heldout->reward[r]->name, tuned, tuned - base);
    }
    n += snprintf(summary + n, PREVIEW_SUMMARY - (size_t)n,
                  " on %d pictures; against the base: ", (int)p->prompts.count * p->seeds);
    gauging_text(p->gauges, summary + n, PREVIEW_SUMMARY - (size_t)n);
}

int preview_run(Preview *p, const char *run, long step, Metrics *m, StopRules *rules, bool *keep,
                char summary[PREVIEW_SUMMARY], Error *err) {
    for (int i = 0; i < (int)p->prompts.count; i++) {
        if (isnan(mean_of_prompt(p, BASE, (size_t)i, -1))) TRY(run_prompt(p, i, BASE, err));
        TRY(run_prompt(p, i, TUNED, err));
    }
    TRY(write_line(p, step, m, rules, keep, err));
    TRY(write_grid(p, run, step, m, err));
    TRY(write_events(p, step, m, err));
    summarise(p, step, summary);
    return tfevents_flush(m->events, err);
}
