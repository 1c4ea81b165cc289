/* The verb `score`: rewards of pictures that are on disk already, one JSON line each, in their order. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/image.h"
#include "format/json.h"
#include "train/job.h"

enum { GROUP_MAX = 64, GROUP_BYTES = 1 << 28 };

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

/* ---- groups: neighbours of one prompt and one size go to the rewards together ---- */

typedef struct Group {
    size_t first;
    int count, width, height;
    uint8_t *rgb; /* [count,height,width,3] */
    Image next;   /* read already, but of another size; else empty */
    float *raw;   /* [rewards,count] */
} Group;

/* Lines of a manifest differ at least in the picture's name, which matters to rewards that read them. */
static bool same_prompt(const Scoring *s, size_t i, size_t j) {
    const Prompt *a = &s->prompts.items[i], *b = &s->prompts.items[j];
    bool text_alone = true;
    for (int r = 0; r < s->rewards.count; r++) text_alone = text_alone && s->rewards.reward[r]->ignores_metadata;
    if (strcmp(a->text, b->text) != 0) return false;
    if (text_alone || (!a->metadata && !b->metadata)) return true;
    return a->metadata && b->metadata && strcmp(a->metadata, b->metadata) == 0;
}

static int add_picture(Group *g, const Image *image, Error *err) {
    const size_t bytes = (size_t)image->width * (size_t)image->height * 3;
    uint8_t *longer = realloc(g->rgb, bytes * (size_t)(g->count + 1));
    if (!longer) return fail(err, DRPO_E_MEMORY, "out of memory for pictures");
    g->rgb = longer;
    memcpy(g->rgb + bytes * (size_t)g->count++, image->rgb, bytes);
    g->width = image->width;
    g->height = image->height;
    return 0;
}

static bool takes_another(const Scoring *s, const Group *g) {
    const size_t i = g->first + (size_t)g->count, bytes = (size_t)g->width * (size_t)g->height * 3;
    return i < s->prompts.count && g->count < GROUP_MAX && bytes * (size_t)(g->count + 1) <= GROUP_BYTES &&
           same_prompt(s, i, g->first);
}

/* Pictures from g->first on. One that cannot be read ends the group with `code`, behind those that could. */
static int gather(const Scoring *s, Group *g, Error *err) {
    Image image = g->next;
    g->next = (Image){0};
    g->count = 0;
    do {
        if (!image.rgb) TRY(image_read(s->image[g->first + (size_t)g->count], &image, err));
        if (g->count > 0 && (image.width != g->width || image.height != g->height)) {
            g->next = image;
            return 0;
        }
        const int code = add_picture(g, &image, err);
        image_free(&image);
        image = (Image){0};
        TRY(code);
    } while (takes_another(s, g));
    return 0;
}

/* Pictures `first` to first + count - 1 of the group; a failure that is skipped is looked at picture by picture. */
static int score_part(Scoring *s, const Group *g, int first, int count, Error *err) {
    const size_t at = g->first + (size_t)first, bytes = (size_t)g->width * (size_t)g->height * 3;
    const Pictures part = {g->rgb + bytes * (size_t)first, count, g->height, g->width};
    float one[MAX_REWARDS];
    const int code = reward_set_score(&s->rewards, &s->prompts.items[at], &part, g->raw, NULL, err);
    if (code < 0 && count > 1 && s->rewards.skip && code == DRPO_E_REWARD) {
        error_clear(err);
        for (int i = 0; i < count; i++) TRY(score_part(s, g, first + i, 1, err));
        return 0;
    }
    const Error why = *err;
    if (reward_set_forgive(&s->rewards, code, err)) return print_failure(s, at, why.text, err);
    if (code < 0) return fail_in(err, "%s%s", s->image[at], count > 1 ? " and those after it" : "");
    for (int i = 0; i < count; i++) {
        for (int r = 0; r < s->rewards.count; r++) one[r] = g->raw[r * count + i];
        TRY(print_scores(s, at + (size_t)i, one, err));
    }
    return 0;
}

static int score_groups(Scoring *s, Group *g, Error *err) {
    while (g->first < s->prompts.count) {
        if (job_cancelled(s->job))
            return fail(err, DRPO_E_CANCELLED, "stopped on request after %zu of %zu pictures", g->first,
                        s->prompts.count);
        Error unread = {0};
        const int code = gather(s, g, &unread);
        if (g->count > 0) TRY(score_part(s, g, 0, g->count, err));
        if (code < 0) return fail(err, code, "%s", unread.text);
        g->first += (size_t)g->count;
    }
    return 0;
}

static int score_pictures(Scoring *s, Error *err) {
    Group g = {.raw = malloc(MAX_REWARDS * GROUP_MAX * sizeof *g.raw)};
    const int code = g.raw ? score_groups(s, &g, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    image_free(&g.next);
    free(g.rgb);
    free(g.raw);
    return code;
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
    TRY(score_pictures(s, err));
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
