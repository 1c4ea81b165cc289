/* The verb `score`: rewards of pictures that are on disk already, one JSON line each. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/image.h"
#include "format/json.h"
#include "train/job.h"

typedef struct Scoring {
    const Job *job;
    Arena *arena;
    RewardSet rewards;
    PromptList prompts; /* one per picture */
    const char **image; /* their paths */
    double sum;
    size_t scored;
} Scoring;

static int from_arguments(Scoring *s, Error *err) {
    const Config *c = s->job->config;
    size_t n = (size_t)config_count(c, OPT_IMAGES), given = (size_t)config_count(c, OPT_PROMPT);
    if (given > 1 && given != n)
        return fail(err, DRPO_E_USAGE, "%zu times --prompt for %zu pictures; give one for all, or one each", given, n);
    s->prompts = (PromptList){arena_alloc(s->arena, sizeof(Prompt) * n), n};
    s->image = arena_alloc(s->arena, sizeof *s->image * n);
    if (!s->prompts.items || !s->image) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        s->image[i] = config_item(c, OPT_IMAGES, (int)i);
        s->prompts.items[i].text = given ? config_item(c, OPT_PROMPT, given == 1 ? 0 : (int)i) : "";
    }
    return 0;
}

/* The "image" of one manifest line, beside the manifest. */
static int image_of(Scoring *s, size_t i, const char *manifest, Error *err) {
    const char *line = s->prompts.items[i].metadata;
    json_t *root = NULL;
    if (!line)
        return fail(err, DRPO_E_INPUT, "%s: a manifest has JSON lines (.jsonl) with \"image\" and \"prompt\"",
                    manifest);
    TRY(json_load_text(manifest, line, strlen(line), &root, err));
    const char *name = json_string_value(json_object_get(root, "image")), *slash = strrchr(manifest, '/');
    int code = name ? 0 : fail(err, DRPO_E_INPUT, "%s: line %zu has no \"image\"", manifest, i + 1);
    if (code == 0 && (name[0] == '/' || !slash))
        s->image[i] = arena_strdup(s->arena, name);
    else if (code == 0)
        s->image[i] = arena_printf(s->arena, "%.*s%s", (int)(slash + 1 - manifest), manifest, name);
    json_decref(root);
    return code == 0 && !s->image[i] ? fail(err, DRPO_E_MEMORY, "out of memory") : code;
}

static int from_manifest(Scoring *s, const char *manifest, Error *err) {
    TRY(prompts_read(manifest, s->arena, &s->prompts, err));
    s->image = arena_alloc(s->arena, sizeof *s->image * s->prompts.count);
    if (!s->image) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < s->prompts.count; i++) TRY(image_of(s, i, manifest, err));
    return 0;
}

static int print_line(const Scoring *s, size_t i, json_t *line, Error *err) {
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (text) job_result(s->job, "%s", text);
    json_decref(line);
    int code = text ? 0 : fail(err, DRPO_E_INPUT, "%s: its name or prompt is not UTF-8", s->image[i]);
    free(text);
    return code;
}

static int print_scores(Scoring *s, size_t i, const float *raw, Error *err) {
    json_t *rewards = json_object();
    double mean = 0, weights = 0;
    for (int r = 0; r < s->rewards.count; r++) {
        const Reward *reward = s->rewards.reward[r];
        mean += (double)raw[r] * reward->weight;
        weights += reward->weight;
        json_object_set_new(rewards, reward->name, json_real(raw[r]));
    }
    s->sum += mean / weights;
    s->scored++;
    json_t *line = json_pack("{s:s, s:s, s:f, s:o}", "image", s->image[i], "prompt", s->prompts.items[i].text, "reward",
                             mean / weights, "rewards", rewards);
    return print_line(s, i, line, err);
}

/* A picture that no reward could score has no number. */
static int print_failure(Scoring *s, size_t i, const char *why, Error *err) {
    return print_line(s, i,
                      json_pack("{s:s, s:s, s:n, s:s}", "image", s->image[i], "prompt", s->prompts.items[i].text,
                                "reward", "error", why),
                      err);
}

static int score_picture(Scoring *s, size_t i, Error *err) {
    Image image;
    float raw[MAX_REWARDS];
    TRY(image_read(s->image[i], &image, err));
    Pictures one = {image.rgb, 1, image.height, image.width};
    int code = reward_set_score(&s->rewards, &s->prompts.items[i], &one, raw, NULL, err);
    image_free(&image);
    const Error why = *err;
    if (reward_set_forgive(&s->rewards, code, err)) return print_failure(s, i, why.text, err);
    return code < 0 ? fail_in(err, "%s", s->image[i]) : print_scores(s, i, raw, err);
}

static int score(Scoring *s, Error *err) {
    const Config *c = s->job->config;
    const char *manifest = config_text(c, OPT_MANIFEST);
    TRY(config_check(c, err));
    if (manifest[0] && config_count(c, OPT_IMAGES))
        return fail(err, DRPO_E_USAGE, "give IMAGE files or --manifest, not both");
    TRY(manifest[0] ? from_manifest(s, manifest, err) : from_arguments(s, err));
    TRY(job_rewards(s->job, &s->rewards, err));
    TRY(job_rewards_fit(&s->rewards, s->prompts.items, s->prompts.count, manifest[0] ? manifest : "IMAGE", err));
    for (size_t i = 0; i < s->prompts.count; i++) {
        if (job_cancelled(s->job))
            return fail(err, DRPO_E_CANCELLED, "stopped on request after %zu of %zu pictures", i, s->prompts.count);
        TRY(score_picture(s, i, err));
    }
    if (s->scored) log_info(&s->job->log, "mean reward of %zu pictures: %.4f", s->scored, s->sum / (double)s->scored);
    return 0;
}

int verb_score(const Job *job, Error *err) {
    Scoring s = {.job = job, .arena = arena_new()};
    int code = s.arena ? score(&s, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    reward_set_close(&s.rewards);
    arena_free(s.arena);
    return code;
}
