/* The verb `replay`: chooses from the scores in candidates.jsonl again and compares with what the run chose. Needs no
 * generator and no reward: whoever has the folder can check it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/jsonl.h"
#include "step/losses.h"
#include "step/pools.h"
#include "step/reward/reward_internal.h"
#include "step/select.h"
#include "train/job.h"
#include "train/session.h"

typedef struct Replay {
    const Config *run; /* the run's own options */
    float weight[MAX_REWARDS];
    int rewards, positives, negatives;
    long prompts, updates, last, scored;
} Replay;

static int read_weights(Replay *r, Error *err) {
    r->rewards = config_count(r->run, OPT_REWARD);
    if (r->rewards < 1 || r->rewards > MAX_REWARDS)
        return fail(err, DRPO_E_INPUT, "config.yaml names %d rewards", r->rewards);
    for (int k = 0; k < r->rewards; k++) {
        RewardSpec spec;
        TRY(reward_spec_parse(config_item(r->run, OPT_REWARD, k), &spec, err));
        r->weight[k] = spec.weight;
        reward_spec_free(&spec);
    }
    return 0;
}

/* [rewards,count] of one line; *count is that of its first list. NULL with *err set. */
static float *read_scores(const Replay *r, const json_t *scores, int *count, Error *err) {
    float *raw = NULL;
    const char *name;
    json_t *list;
    int k = 0;
    *count = 0;
    json_object_foreach((json_t *)scores, name, list) {
        const int n = (int)json_array_size(list);
        if (k == 0) {
            *count = n;
            raw = calloc((size_t)(n ? n : 1) * (size_t)r->rewards, sizeof *raw);
        }
        if (!raw || n != *count || n < 1 || k == r->rewards) break;
        for (int i = 0; i < n; i++) raw[k * n + i] = (float)json_number_value(json_array_get(list, (size_t)i));
        k++;
    }
    if (raw && k == r->rewards && json_object_size(scores) == (size_t)k) return raw;
    free(raw);
    fail(err, DRPO_E_INPUT, "\"scores\" are not lists of equal length, one for each of %d rewards", r->rewards);
    return NULL;
}

static int choose(const Replay *r, const json_t *line, Selection *out, Error *err) {
    const json_t *key = json_object_get(line, "key");
    const Config *c = r->run;
    int count;
    float *raw = read_scores(r, json_object_get(line, "scores"), &count, err);
    if (!raw) return err->code;
    double *score = calloc((size_t)count, sizeof *score);
    if (!score) {
        free(raw);
        return fail(err, DRPO_E_MEMORY, "out of memory");
    }
    reward_ensemble(raw, r->weight, r->rewards, count, score);
    const RngKey ticket = {(uint64_t)json_integer_value(json_array_get(key, 0)), RNG_TICKET,
                           (uint32_t)json_integer_value(json_array_get(key, 1)),
                           (uint32_t)json_integer_value(json_array_get(key, 2)), 0};
    const int code =
        config_bool(c, OPT_POOLS)
            ? pools_select(score, count, r->positives, (int)config_int(c, OPT_POSITIVES_MIN), r->negatives, ticket, out,
                           err)
            : select_candidates(score, count, r->positives, r->negatives, config_float(c, OPT_MIN_SPREAD), out, err);
    free(raw);
    free(score);
    return code;
}

static bool same(const int *chosen, int n, const json_t *recorded) {
    bool equal = json_array_size(recorded) == (size_t)n;
    for (int k = 0; k < n && equal; k++) equal = json_integer_value(json_array_get(recorded, (size_t)k)) == chosen[k];
    return equal;
}

static void list_text(const int *values, int n, char *text, size_t size) {
    *text = 0;
    for (int k = 0; k < n && strlen(text) + 8 < size; k++)
        snprintf(text + strlen(text), size - strlen(text), "%s%d", k ? " " : "", values[k]);
}

static int check_line(void *user, const json_t *line, const char *text, int number, Error *err) {
    (void)text, (void)number;
    Replay *r = user;
    const long step = (long)json_integer_value(json_object_get(line, "step"));
    r->prompts++;
    r->updates += step != r->last;
    r->last = step;
    if (json_is_true(json_object_get(line, "failed"))) return 0;
    r->scored++;
    Selection s;
    TRY(choose(r, line, &s, err));
    /* methods that follow a slope learn also where no ranking is: nobody is chosen, nothing skipped */
    const bool skipped =
        json_is_true(json_object_get(line, "skipped")) || !json_array_size(json_object_get(line, "positives"));
    if (s.skip == skipped && same(s.pos, s.n_pos, json_object_get(line, "positives")) &&
        same(s.neg, s.n_neg, json_object_get(line, "negatives")))
        return 0;
    char pos[160], neg[160];
    list_text(s.pos, s.n_pos, pos, sizeof pos);
    list_text(s.neg, s.n_neg, neg, sizeof neg);
    return fail(err, DRPO_E_INTERNAL,
                "update %ld, prompt %lld: its scores choose %s%s%s%s, which is not what the run chose", step,
                (long long)json_integer_value(json_object_get(line, "prompt")), s.skip ? "nobody" : "positives ", pos,
                s.skip ? "" : " and negatives ", neg);
}

static int load(Config *c, const char *run, Arena *a, Error *err) {
    const char *path = path_join(a, run, "config.yaml");
    if (!path) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (!file_exists(path)) return fail(err, DRPO_E_INPUT, "%s: not a run folder, there is no config.yaml", run);
    return config_load(c, path, SOURCE_FILE, err);
}

static int replay(const Job *job, Config *c, Arena *a, Error *err) {
    TRY(config_check(job->config, err));
    const char *run = config_item(job->config, OPT_REPLAYED, 0), *path = path_join(a, run, "candidates.jsonl");
    if (!path) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(load(c, run, a, err));
    if (!file_exists(path)) return fail(err, DRPO_E_INPUT, "%s: there is no such file; nothing was scored yet", path);
    LearnOptions learn;
    session_learn_options(c, &learn);
    Replay r = {
        .run = c, .positives = (int)config_int(c, OPT_POSITIVES), .negatives = (int)config_int(c, OPT_NEGATIVES)};
    if (!losses_rank(&learn)) r.positives = r.negatives = 1;
    TRY(read_weights(&r, err));
    TRY(jsonl_read(path, check_line, &r, err));
    if (r.scored == 0) return fail(err, DRPO_E_INPUT, "%s: holds no scored prompt; nothing to check", path);
    job_result(job, "%s: %ld prompts of %ld updates chose what their scores say", run, r.prompts, r.updates);
    return 0;
}

int verb_replay(const Job *job, Error *err) {
    Config *c = config_new(DRPO_TRAIN);
    Arena *a = arena_new();
    const int code = c && a ? replay(job, c, a, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    arena_free(a);
    config_free(c);
    return code;
}
