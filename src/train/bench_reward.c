/* `drpo bench reward`: how long the rewards of --reward take for a picture, and how much memory. Every round asks about
 * --candidates pictures of another prompt, as an update does; the first is told apart, since networks are planned and
 * programs started in it. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/threads.h"
#include "format/json.h"
#include "train/bench.h"
#include "train/session.h"

enum { USUAL_SIDE = 512 };

typedef struct Rewarding {
    const Job *job;
    Arena *arena;
    RewardSet rewards;
    PromptList prompts;
    Pictures pictures;
    int rounds;
    float *scores;   /* [pictures], of the first round */
    double *seconds; /* [rounds] */
    double *busy;    /* [rounds], of all threads: what other programs on the machine do not change */
    double first;    /* seconds of the first round, which is none of them */
} Rewarding;

/* Stripes of triangle waves and a little noise: what a PNG file makes of them is as long as a photograph's. */
static uint8_t pixel(int k, int y, int x, int c) {
    const int wave = (x * (k % 7 + 1) + y * (2 * c + 3)) % 480, slope = wave < 240 ? wave : 479 - wave;
    const uint32_t place = (((uint32_t)k * 4096 + (uint32_t)y) * 4096 + (uint32_t)x) * 3 + (uint32_t)c;
    return (uint8_t)(slope + (int)(place * 2654435761u >> 28));
}

static int make_pictures(Rewarding *b, Error *err) {
    const int side = (int)config_int(b->job->config, OPT_RESOLUTION);
    Pictures *p = &b->pictures;
    p->count = (int)config_int(b->job->config, OPT_CANDIDATES);
    p->height = p->width = side ? side : USUAL_SIDE;
    const size_t row = (size_t)p->width * 3, one = row * (size_t)p->height;
    uint8_t *rgb = arena_alloc(b->arena, one * (size_t)p->count);
    b->scores = arena_alloc(b->arena, sizeof *b->scores * (size_t)p->count);
    b->seconds = arena_alloc(b->arena, sizeof *b->seconds * (size_t)b->rounds);
    b->busy = arena_alloc(b->arena, sizeof *b->busy * (size_t)b->rounds);
    if (!rgb || !b->scores || !b->seconds || !b->busy) return fail(err, DRPO_E_MEMORY, "out of memory for pictures");
    for (int k = 0; k < p->count; k++)
        for (int y = 0; y < p->height; y++)
            for (size_t i = 0; i < row; i++)
                rgb[(size_t)k * one + (size_t)y * row + i] = pixel(k, y, (int)(i / 3), (int)(i % 3));
    p->rgb = rgb;
    return 0;
}

static const Prompt *prompt_of(const Rewarding *b, int round) {
    return &b->prompts.items[(size_t)round % b->prompts.count];
}

/* A first round with ?batch= is that many pictures: a slow reward is not asked about all of them twice. */
static int first_round(Rewarding *b, Reward *r, Error *err) {
    Pictures some = b->pictures;
    if (r->batch > 0 && r->batch < some.count) some.count = r->batch;
    const double start = clock_seconds();
    TRY(reward_score(r, prompt_of(b, 0), &some, b->scores, NULL, err));
    b->first = clock_seconds() - start;
    return 0;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double busy_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double median_of(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    return x[n / 2];
}

typedef struct Medians {
    double seconds, busy; /* of a round */
} Medians;

static int time_rounds(Rewarding *b, Reward *r, Medians *out, Error *err) {
    for (int i = 0; i < b->rounds; i++) {
        if (job_cancelled(b->job)) return fail(err, DRPO_E_CANCELLED, "stopped on request");
        const double start = clock_seconds(), busy = busy_seconds();
        TRY(reward_score(r, prompt_of(b, i + 1), &b->pictures, b->scores, NULL, err));
        b->seconds[i] = clock_seconds() - start;
        b->busy[i] = busy_seconds() - busy;
    }
    *out = (Medians){median_of(b->seconds, b->rounds), median_of(b->busy, b->rounds)};
    return 0;
}

/* Scores are those of the last round. */
static int print_json(const Rewarding *b, const Reward *r, Medians m, Error *err) {
    json_t *scores = json_array();
    for (int k = 0; k < b->pictures.count; k++) json_array_append_new(scores, json_real(b->scores[k]));
    json_t *root =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:o}", "reward", r->name, "pictures",
                  b->pictures.count, "side", b->pictures.width, "rounds", b->rounds, "threads", threads_default(),
                  "images_per_second", b->pictures.count / m.seconds, "seconds_per_image",
                  m.seconds / b->pictures.count, "processor_seconds_per_image", m.busy / b->pictures.count,
                  "first_seconds", b->first, "peak_bytes", (json_int_t)memory_peak_bytes(), "scores", scores);
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (text) job_result(b->job, "%s", text);
    int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

static int bench_one(Rewarding *b, Reward *r, Error *err) {
    Medians m = {0};
    if (r->needs_metadata && !prompt_of(b, 0)->metadata)
        return fail(err, DRPO_E_INPUT, "reward %s needs the metadata of a .jsonl prompt file: --prompts", r->label);
    TRY(first_round(b, r, err));
    TRY(time_rounds(b, r, &m, err));
    if (config_bool(b->job->config, OPT_JSON)) return print_json(b, r, m, err);
    job_result(b->job,
               "%-24s %8.2f images/s, %10.4f s an image (%.4f of processor time), first round %.3f s, peak %.1f MiB",
               r->name, b->pictures.count / m.seconds, m.seconds / b->pictures.count, m.busy / b->pictures.count,
               b->first, (double)memory_peak_bytes() / 1048576);
    return 0;
}

static int bench_all(Rewarding *b, Error *err) {
    const Config *c = b->job->config;
    const char *path = NULL;
    TRY(session_prompts(b->arena, NULL, "prompts", config_text(c, OPT_PROMPTS), &b->job->log, &b->prompts, &path, err));
    TRY(make_pictures(b, err));
    TRY(job_rewards(b->job, &b->rewards, err));
    for (int r = 0; r < b->rewards.count; r++) TRY(bench_one(b, b->rewards.reward[r], err));
    return 0;
}

int bench_reward(const Job *job, Error *err) {
    Rewarding b = {.job = job, .arena = arena_new(), .rounds = (int)config_int(job->config, OPT_BENCH_STEPS)};
    int code = b.arena ? bench_all(&b, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    reward_set_close(&b.rewards);
    arena_free(b.arena);
    return code;
}
