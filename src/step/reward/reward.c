/* Rewards: opening one by its specification, and scoring with it: in parts, on lanes, with further attempts.
 *
 * Parts are fixed by count, batch and lanes before anything runs, and each writes to its own place, so that the order
 * in which they finish cannot matter. */
#include "step/reward/reward.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "step/reward/reward_internal.h"

enum { LANES_MAX = 64 };

Reward *reward_new(const RewardSpec *spec, const char *name) {
    Reward *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    const char *given = reward_text(spec, "name"), *retries = reward_text(spec, "retries");
    r->weight = spec->weight;
    r->lanes = 1;
    r->batch = (int)reward_number(spec, "batch");
    r->retries = *retries ? atoi(retries) : spec->kind->retries;
    r->backoff = reward_number(spec, "backoff");
    snprintf(r->label, sizeof r->label, "%s%s%.200s", spec->name, *spec->argument ? ":" : "", spec->argument);
    size_t length = 0;
    for (const char *c = *given ? given : name; *c && length + 8 < sizeof r->name; c++)
        r->name[length++] = isalnum((unsigned char)*c) ? (char)tolower((unsigned char)*c) : '_';
    return r;
}

int reward_open(const char *text, const RewardCallback *callbacks, int n_callbacks, Reward **out, Error *err) {
    *out = NULL;
    RewardSpec spec;
    const RewardContext context = {callbacks, n_callbacks};
    TRY(reward_spec_parse(text, &spec, err));
    int code = reward_spec_check(&spec, err);
    if (code == 0) code = spec.kind->open(&spec, &context, out, err);
    reward_spec_free(&spec);
    return code;
}

void reward_close(Reward *r) {
    if (!r) return;
    if (r->destroy) r->destroy(r);
    free(r);
}

/* ---- one part ---- */

static int check_finite(const Reward *r, const float *scores, int count, Error *err) {
    for (int k = 0; k < count; k++)
        if (!isfinite(scores[k]))
            return fail(err, DRPO_E_REWARD, "reward %s: score %d of %d is not a finite number", r->label, k + 1, count);
    return 0;
}

static void wait_seconds(double seconds) {
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
}

/* `fault` keeps the first of the failures that a later attempt made good. */
static int score_part(Reward *r, const Prompt *prompt, const Pictures *part, float *scores, Error *fault, Error *err) {
    double pause = r->backoff;
    for (int attempt = 1;; attempt++) {
        error_clear(err);
        int code = r->score(r, prompt, part, scores, err);
        if (code == 0) code = check_finite(r, scores, part->count, err);
        if (code == 0) return 0;
        memset(scores, 0, (size_t)part->count * sizeof *scores);
        if (code != DRPO_E_REWARD) return code;
        atomic_fetch_add(&r->faults, 1);
        if (attempt > r->retries) {
            const size_t length = strlen(err->text);
            if (attempt > 1) snprintf(err->text + length, sizeof err->text - length, " (%d attempts)", attempt);
            return code;
        }
        if (!fault->code) *fault = *err;
        wait_seconds(pause);
        pause = fmin(2 * pause, 30);
    }
}

/* ---- all parts ---- */

typedef struct Parts {
    Reward *reward;
    const Prompt *prompt;
    const Pictures *pictures;
    float *scores;
    int size, count; /* pictures per part, parts */
    atomic_int next;
    atomic_bool failed; /* the others need not begin */
} Parts;

typedef struct Lane {
    Parts *parts;
    int part; /* the one that failed */
    Error fault, err;
    pthread_t thread;
} Lane;

static void *run_lane(void *user) {
    Lane *lane = user;
    Parts *all = lane->parts;
    const Pictures *p = all->pictures;
    const size_t bytes = (size_t)p->height * (size_t)p->width * 3;
    while (!atomic_load(&all->failed) && (lane->part = atomic_fetch_add(&all->next, 1)) < all->count) {
        const int first = lane->part * all->size, left = p->count - first;
        const Pictures part = {p->rgb + (size_t)first * bytes, left < all->size ? left : all->size, p->height,
                               p->width};
        if (score_part(all->reward, all->prompt, &part, all->scores + first, &lane->fault, &lane->err) == 0) continue;
        atomic_store(&all->failed, true);
        return NULL;
    }
    return NULL;
}

/* The failure of the earliest part, whichever came first in time. */
static int join_lanes(Lane *lane, int n, Error *fault, Error *err) {
    const Lane *first = NULL;
    for (int i = 0; i < n; i++) {
        if (i > 0) pthread_join(lane[i].thread, NULL);
        if (fault && !fault->code && lane[i].fault.code) *fault = lane[i].fault;
        if (lane[i].err.code && (!first || lane[i].part < first->part)) first = &lane[i];
    }
    return first ? fail(err, first->err.code, "%s", first->err.text) : 0;
}

static int part_size(const Reward *r, int count) {
    const int lanes = r->lanes < LANES_MAX ? r->lanes : LANES_MAX, share = (count + lanes - 1) / lanes;
    return r->batch > 0 && r->batch < share ? r->batch : share;
}

int reward_plan(Reward *r, const RewardWork *work, Error *err) {
    RewardWork part = *work;
    if (!r->plan || work->pictures < 1) return 0;
    part.pictures = part_size(r, work->pictures);
    TRY(r->plan(r, &part, err));
    part.pictures = work->pictures % part.pictures;
    return part.pictures ? r->plan(r, &part, err) : 0;
}

int reward_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *fault, Error *err) {
    const int count = pictures->count, lanes = r->lanes < LANES_MAX ? r->lanes : LANES_MAX;
    const int size = part_size(r, count);
    Parts parts = {r, prompt, pictures, scores, size, (count + size - 1) / size, 0, false};
    int threads = parts.count < lanes ? parts.count : lanes, started = 1;
    Lane *lane = calloc((size_t)threads, sizeof *lane);
    if (!lane) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int i = 0; i < threads; i++) lane[i].parts = &parts;
    while (started < threads && pthread_create(&lane[started].thread, NULL, run_lane, &lane[started]) == 0) started++;
    run_lane(&lane[0]); /* fewer threads than hoped for are slower, not wrong */
    const int code = join_lanes(lane, started, fault, err);
    free(lane);
    return code;
}
