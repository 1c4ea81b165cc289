/* Stop rules: parsing, judging, replaying. See stop_rules.h. */
#include "train/stop_rules.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/jsonl.h"
#include "train/config_value.h"

typedef enum StopNeed { NEEDS_NOTHING, NEEDS_HELDOUT, NEEDS_PAIRS, NEEDS_FEATURES } StopNeed;

typedef struct StopKind StopKind;
struct StopKind {
    const char *name;
    StopNeed need;
    bool below, percent, count; /* fires below its limit; takes a percentage; is a whole number */
    const char *key;            /* below "gauges": "ratio/diversity"; NULL: a judge of its own */
    const char *why;            /* with the value, then the limit */
    void (*judge)(StopRules *s, const StopRule *r, const json_t *line);
};

/* ---- what a rule says ---- */

static void violated(StopRules *s, const StopRule *r, double value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void append(char *text, size_t size, const char *separator, const char *more) {
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%s", n ? separator : "", more);
}

static void violated(StopRules *s, const StopRule *r, double value, const char *format, ...) {
    char why[256];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!s->last.fired) s->last.value = value;
    s->last.fired = true;
    append(s->last.rules, sizeof s->last.rules, ", ", r->text);
    append(s->last.why, sizeof s->last.why, "; ", why);
}

/* As records have it, with 15 digits: a resumed run reads what this one saw. */
static double as_written(const json_t *value) {
    char text[32];
    if (!json_is_number(value)) return NAN;
    snprintf(text, sizeof text, "%.15g", json_number_value(value));
    return strtod(text, NULL);
}

static void judge_heldout(StopRules *s, const StopRule *r, const json_t *line) {
    const char *name;
    json_t *both;
    json_object_foreach(json_object_get(line, "heldout"), name, both) {
        const double tuned = as_written(json_object_get(both, "tuned"));
        for (int k = 0; k < s->heldouts; k++) {
            const double best = s->best_heldout[k], drop = best - tuned;
            if (strcmp(s->heldout[k], name) != 0 || !(drop > (r->percent ? r->limit / 100 * fabs(best) : r->limit)))
                continue;
            violated(s, r, drop, "held-out %s fell by %.4g from its best %.4g to %.4g", name, drop, best, tuned);
        }
    }
}

static void judge_plateau(StopRules *s, const StopRule *r, const json_t *line) {
    (void)line;
    if (s->since_best >= (int)r->limit)
        violated(s, r, s->since_best,
                 "the reward at the fixed prompts has not risen since step %ld, for %d evaluations", s->best_step,
                 s->since_best);
}

static const StopKind kinds[] = {
    {"heldout_drop", NEEDS_HELDOUT, .percent = true, .judge = judge_heldout},
    {"diversity_below", NEEDS_PAIRS, .below = true, .key = "diversity",
     .why = "pictures of one prompt lie %.3g times as far apart as the base's"},
    {"feature_diversity_below", NEEDS_FEATURES, .below = true, .key = "feature_diversity",
     .why = "features of one prompt's pictures lie %.3g times as far apart as the base's"},
    {"saturation_above", .key = "saturation", .why = "pictures are %.3g times as saturated as the base's"},
    {"highfreq_above", .key = "high_frequency", .why = "high frequencies have %.3g times the energy of the base's"},
    {"distance_above", .key = "distance", .why = "latents lie %.3g of the base's norm away from the base"},
    {"reward_plateau", .count = true, .judge = judge_plateau},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static double gauge_of(const json_t *line, const char *key) {
    const json_t *gauges = json_object_get(line, "gauges");
    if (strcmp(key, "distance") == 0) return as_written(json_object_get(json_object_get(gauges, key), "latent"));
    return as_written(json_object_get(json_object_get(gauges, "ratio"), key));
}

static void judge(StopRules *s, const StopRule *r, const json_t *line) {
    if (r->kind->judge) {
        r->kind->judge(s, r, line);
        return;
    }
    const double value = gauge_of(line, r->kind->key);
    if (!(r->kind->below ? value < r->limit : value > r->limit)) return; /* not measured: holds */
    char why[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(why, sizeof why, r->kind->why, value);
#pragma GCC diagnostic pop
    violated(s, r, value, "%s", why);
}

/* ---- one evaluation ---- */

static void note_heldout(StopRules *s, const json_t *line) {
    const char *name;
    json_t *both;
    json_object_foreach(json_object_get(line, "heldout"), name, both) {
        int k = 0;
        while (k < s->heldouts && strcmp(s->heldout[k], name) != 0) k++;
        if (k == MAX_REWARDS) continue;
        if (k == s->heldouts) {
            snprintf(s->heldout[k], sizeof s->heldout[k], "%s", name);
            s->best_heldout[s->heldouts++] = NAN;
        }
        s->best_heldout[k] = fmax(s->best_heldout[k], as_written(json_object_get(both, "base")));
        s->best_heldout[k] = fmax(s->best_heldout[k], as_written(json_object_get(both, "tuned")));
    }
}

static void note_reward(StopRules *s, double reward) {
    if (isfinite(reward) && !(reward <= s->best_reward)) {
        s->best_reward = reward;
        s->best_step = s->step;
        s->since_best = 0;
    } else
        s->since_best++;
}

/* What every rule says; the state but for what is kept. Returns the reward. */
static double look_at(StopRules *s, const json_t *line) {
    const double reward = as_written(json_object_get(json_object_get(line, "reward"), "tuned"));
    s->step = (long)json_integer_value(json_object_get(line, "step"));
    s->last = (StopVerdict){0};
    note_heldout(s, line);
    note_reward(s, reward);
    for (int i = 0; i < s->count; i++) judge(s, &s->rule[i], line);
    return reward;
}

/* Where nothing could be scored, an adapter is kept only for want of another. */
static bool keep(StopRules *s, double reward) {
    const bool better =
        s->kept < 0 || !isfinite(s->kept_reward) ? s->kept < 0 || isfinite(reward) : reward >= s->kept_reward;
    if (s->last.fired || !better) return false;
    s->kept = s->step;
    s->kept_reward = reward;
    return true;
}

bool stop_rules_judge(StopRules *s, const json_t *line) { return keep(s, look_at(s, line)); }

typedef struct Replay {
    StopRules *rules;
    long kept, own;
} Replay;

static int replay_line(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text, (void)line, (void)err;
    const Replay *r = user;
    const double reward = look_at(r->rules, value);
    if (r->rules->step == r->kept || r->rules->step == r->own) keep(r->rules, reward);
    return 0;
}

int stop_rules_replay(StopRules *s, const char *path, long kept, long own, Error *err) {
    Replay r = {s, kept, own};
    return jsonl_read(path, replay_line, &r, err);
}

json_t *stop_rules_json(const StopRules *s) {
    return json_pack("{s:s, s:o, s:s, s:I}", "rules", s->last.rules, "value",
                     isfinite(s->last.value) ? json_real(s->last.value) : json_null(), "why", s->last.why, "kept",
                     (json_int_t)s->kept);
}

/* ---- options ---- */

static const StopKind *find_kind(const char *name) {
    for (int i = 0; i < KINDS; i++)
        if (key_equal(kinds[i].name, name)) return &kinds[i];
    return NULL;
}

static int unknown_rule(const char *text, Error *err) {
    char known[256] = "";
    for (int i = 0; i < KINDS; i++) append(known, sizeof known, ", ", kinds[i].name);
    return fail(err, DRPO_E_USAGE, "--stop-when %s: no such rule; there are %s, each with =LIMIT, and off", text,
                known);
}

static int parse_limit(const StopKind *kind, const char *text, const char *limit, StopRule *out, Error *err) {
    char *end = NULL;
    out->limit = strtod(limit, &end);
    out->percent = kind->percent && end != limit && strcmp(end, "%") == 0;
    const bool number = end != limit && (*end == 0 || out->percent) && isfinite(out->limit);
    const bool whole = !kind->count || (out->limit == floor(out->limit) && out->limit <= 1000000);
    if (number && out->limit > 0 && whole) return 0;
    return fail(err, DRPO_E_USAGE, "--stop-when %s: '%s' must be %s, as in %s=%s", text, limit,
                kind->count     ? "a whole number of evaluations from 1"
                : kind->percent ? "a number above 0, or a percentage"
                                : "a number above 0",
                kind->name,
                kind->count     ? "5"
                : kind->percent ? "0.05 or 5%"
                : kind->below   ? "0.7"
                                : "1.5");
}

static int parse_rule(const char *text, StopRule *out, Error *err) {
    char name[64];
    const char *equals = strchr(text, '=');
    const size_t n = equals ? (size_t)(equals - text) : strlen(text);
    if (n >= sizeof name || strlen(text) >= sizeof out->text) return unknown_rule(text, err);
    memcpy(name, text, n);
    name[n] = 0;
    *out = (StopRule){.kind = find_kind(name)};
    if (!out->kind) return unknown_rule(text, err);
    snprintf(out->text, sizeof out->text, "%s%s", out->kind->name, equals ? equals : "");
    return parse_limit(out->kind, text, equals ? equals + 1 : "", out, err);
}

/* A rule that can never fire is a mistake. */
static int check_rule(const Config *c, const StopRule *r, Error *err) {
    const char *text = r->text;
    if (config_int(c, OPT_EVAL_EVERY) == 0)
        return fail(err, DRPO_E_USAGE, "--stop-when %s looks at evaluations, which --eval-every 0 turns off", text);
    switch (r->kind->need) {
    case NEEDS_HELDOUT:
        if (config_count(c, OPT_EVAL_REWARD) == 0)
            return fail(err, DRPO_E_USAGE, "--stop-when %s needs a held-out reward: give --eval-reward", text);
        return 0;
    case NEEDS_FEATURES:
        if (config_choice(c, OPT_METHOD) != METHOD_DRPO)
            return fail(err, DRPO_E_USAGE, "--stop-when %s looks at --features, which --method %s does not", text,
                        config_text(c, OPT_METHOD));
        /* fall through */
    case NEEDS_PAIRS:
        if (config_int(c, OPT_EVAL_SEEDS) < 2)
            return fail(err, DRPO_E_USAGE,
                        "--stop-when %s compares pictures of one prompt: --eval-seeds must be 2 "
                        "or more",
                        text);
        return 0;
    case NEEDS_NOTHING: break;
    }
    return 0;
}

int stop_rules_open(const Config *c, StopRules *out, Error *err) {
    *out = (StopRules){.best_reward = NAN, .kept = -1, .best_step = -1, .step = -1};
    const int n = config_count(c, OPT_STOP_WHEN);
    if (n == 1 && strcmp(config_item(c, OPT_STOP_WHEN, 0), "off") == 0) return 0;
    if (n > STOP_MAX_RULES)
        return fail(err, DRPO_E_USAGE, "--stop-when: %d rules, at most %d are possible", n, STOP_MAX_RULES);
    for (int i = 0; i < n; i++) {
        TRY(parse_rule(config_item(c, OPT_STOP_WHEN, i), &out->rule[i], err));
        TRY(check_rule(c, &out->rule[i], err));
    }
    out->count = n;
    return 0;
}
