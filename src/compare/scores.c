/* Scores: reads evaluations and draws the bootstrap. See scores.h. */
#include "compare/scores.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "format/jsonl.h"

/* ---- reading ---- */

int scores_new(Scores *s, int variants, int seeds, int prompts, Error *err) {
    size_t n = (size_t)variants * (size_t)seeds * SCORE_SIDES * (size_t)prompts;
    *s = (Scores){.variants = variants, .seeds = seeds, .prompts = prompts};
    s->tag = malloc(((size_t)prompts + 1) * sizeof *s->tag);
    s->score = calloc(n + 1, sizeof *s->score);
    if (!s->tag || !s->score) {
        scores_free(s);
        return fail(err, DRPO_E_MEMORY, "out of memory for the scores of %d runs", variants * seeds);
    }
    for (int i = 0; i < prompts; i++) s->tag[i] = -1;
    return 0;
}

void scores_free(Scores *s) {
    free(s->tag);
    free(s->score);
    *s = (Scores){0};
}

PromptScore *scores_at(const Scores *s, int variant, int seed, int side) {
    return s->score +
           (((size_t)variant * (size_t)s->seeds + (size_t)seed) * SCORE_SIDES + (size_t)side) * (size_t)s->prompts;
}

void scores_untrained(Scores *s, int variant, int seed, int like) {
    size_t bytes = (size_t)s->prompts * sizeof *s->score;
    for (int side = 0; side < SCORE_SIDES; side++)
        if (side == SCORE_TUNED || variant != like)
            memcpy(scores_at(s, variant, seed, side), scores_at(s, like, seed, SCORE_BASE), bytes);
}

typedef struct Reader {
    Scores *s;
    PromptScore *side[SCORE_SIDES];
} Reader;

static int find_name(char *names, size_t room, int *count, int max, const char *name) {
    for (int i = 0; i < *count; i++)
        if (strncmp(names + (size_t)i * room, name, room - 1) == 0) return i;
    if (*count == max) return -1;
    snprintf(names + (size_t)*count * room, room, "%s", name);
    return (*count)++;
}

static int read_line(void *user, const json_t *line, const char *text, int number, Error *err) {
    (void)text, (void)number;
    const Reader *r = user;
    Scores *s = r->s;
    const char *model = json_string_value(json_object_get(line, "model")), *name;
    const char *tag = json_string_value(json_object_get(line, "tag"));
    json_int_t index = json_integer_value(json_object_get(line, "index"));
    const json_t *correct = json_object_get(line, "correct"), *rewards = json_object_get(line, "rewards");
    json_t *value;
    if (!model || index < 0 || index >= s->prompts)
        return fail(err, DRPO_E_INPUT, "is no line of an evaluation of %d prompts", s->prompts);
    PromptScore *p = &r->side[strcmp(model, "base") == 0 ? SCORE_BASE : SCORE_TUNED][index];
    if (tag) s->tag[index] = find_name(s->tag_name[0], sizeof s->tag_name[0], &s->tags, EVAL_MAX_TAGS, tag);
    p->images += 1;
    p->judged += correct != NULL;
    p->correct += json_is_true(correct);
    json_object_foreach((json_t *)rewards, name, value) {
        int k = find_name(s->reward_name[0], sizeof s->reward_name[0], &s->rewards, MAX_REWARDS, name);
        if (k >= 0) p->reward[k] += json_number_value(value);
    }
    return 0;
}

int scores_read(Scores *s, int variant, int seed, const char *path, Error *err) {
    Reader r = {s, {scores_at(s, variant, seed, SCORE_BASE), scores_at(s, variant, seed, SCORE_TUNED)}};
    TRY(jsonl_read(path, read_line, &r, err));
    for (int i = 0; i < s->prompts; i++)
        if (r.side[SCORE_BASE][i].images == 0 || r.side[SCORE_TUNED][i].images != r.side[SCORE_BASE][i].images)
            return fail(err, DRPO_E_INPUT, "%s: lacks pictures of prompt %d; delete its folder, then it is made again",
                        path, i);
    return 0;
}

/* ---- metrics of one (re)sample ---- */

enum { MOST_METRICS = EVAL_MAX_TAGS + 1 + MAX_REWARDS };

/* Which prompts and seeds are looked at, as often as they occur. */
typedef struct Draw {
    int *prompt;    /* [prompts], grouped by tag */
    int *tag_first; /* [tags + 2]; slot 0: prompts without a tag */
    int *seed, seeds;
} Draw;

static void add(PromptScore *sum, const PromptScore *p, int rewards) {
    sum->images += p->images;
    sum->judged += p->judged;
    sum->correct += p->correct;
    for (int k = 0; k < rewards; k++) sum->reward[k] += p->reward[k];
}

/* value [tags + 1 + rewards]: accuracy per tag, their mean, rewards; NaN where nothing was measured. */
static void measure(const Scores *s, int variant, int side, const Draw *d, double *value) {
    PromptScore all = {0};
    double overall = 0, judged = 0;
    for (int slot = 0; slot <= s->tags; slot++) {
        PromptScore tag = {0};
        for (int i = d->tag_first[slot]; i < d->tag_first[slot + 1]; i++)
            for (int k = 0; k < d->seeds; k++)
                add(&tag, &scores_at(s, variant, d->seed[k], side)[d->prompt[i]], s->rewards);
        add(&all, &tag, s->rewards);
        if (slot == 0) continue;
        value[slot - 1] = tag.judged > 0 ? tag.correct / tag.judged : NAN;
        if (tag.judged == 0) continue;
        overall += value[slot - 1];
        judged += 1;
    }
    value[s->tags] = judged > 0 ? overall / judged : NAN;
    for (int k = 0; k < s->rewards; k++) value[s->tags + 1 + k] = all.reward[k] / all.images;
}

static void order_prompts(const Scores *s, Draw *d) {
    int n = 0;
    for (int slot = 0; slot <= s->tags; slot++) {
        d->tag_first[slot] = n;
        for (int i = 0; i < s->prompts; i++)
            if (s->tag[i] == slot - 1) d->prompt[n++] = i;
    }
    d->tag_first[s->tags + 1] = n;
}

static void resample(const Scores *s, const Draw *whole, uint64_t seed, int b, Draw *out) {
    for (int slot = 0; slot <= s->tags; slot++) {
        const RngKey key = {seed, RNG_BOOTSTRAP, (uint32_t)b, (uint32_t)slot, 0};
        int first = whole->tag_first[slot], n = whole->tag_first[slot + 1] - first;
        for (int i = 0; i < n; i++)
            out->prompt[first + i] = whole->prompt[first + (int)rng_below(key, (uint64_t)i, (size_t)n)];
    }
    const RngKey key = {seed, RNG_BOOTSTRAP, (uint32_t)b, EVAL_MAX_TAGS + 1, 0};
    for (int k = 0; k < s->seeds; k++) out->seed[k] = (int)rng_below(key, (uint64_t)k, (size_t)s->seeds);
}

/* ---- summary ---- */

typedef struct Bootstrap {
    const Scores *s;
    Draw whole;
    int metrics;
    double *value; /* [1 + EVAL_RESAMPLES,variants,SCORE_SIDES,metrics]; the first: the sample itself */
    double *work;  /* [EVAL_RESAMPLES] */
} Bootstrap;

static double *values_of(const Bootstrap *t, int sample, int variant, int side) {
    return t->value + (((size_t)sample * (size_t)t->s->variants + (size_t)variant) * SCORE_SIDES + (size_t)side) *
                          (size_t)t->metrics;
}

static void measure_all(const Bootstrap *t, int sample, const Draw *d) {
    for (int v = 0; v < t->s->variants; v++)
        for (int side = 0; side < SCORE_SIDES; side++) measure(t->s, v, side, d, values_of(t, sample, v, side));
}

static int new_draw(const Scores *s, Arena *a, const Draw *like, Draw *out, Error *err) {
    *out = (Draw){.prompt = arena_alloc(a, sizeof(int) * ((size_t)s->prompts + 1)),
                  .seed = arena_alloc(a, sizeof(int) * (size_t)s->seeds),
                  .seeds = s->seeds};
    out->tag_first = like ? like->tag_first : arena_alloc(a, sizeof(int) * ((size_t)s->tags + 2));
    if (!out->prompt || !out->seed || !out->tag_first) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int k = 0; k < s->seeds; k++) out->seed[k] = k;
    return 0;
}

static int draw_all(Bootstrap *t, uint64_t seed, Arena *a, Error *err) {
    const Scores *s = t->s;
    Draw d;
    TRY(new_draw(s, a, NULL, &t->whole, err));
    order_prompts(s, &t->whole);
    TRY(new_draw(s, a, &t->whole, &d, err));
    measure_all(t, 0, &t->whole);
    for (int b = 0; b < EVAL_RESAMPLES; b++) {
        resample(s, &t->whole, seed, b, &d);
        measure_all(t, 1 + b, &d);
    }
    return 0;
}

/* x - y of metric m over samples; y NULL: x alone. */
typedef struct Term {
    int variant, side;
} Term;

static void estimate(const Bootstrap *t, int m, Term x, const Term *y, EvalValue *out) {
    for (int b = 0; b <= EVAL_RESAMPLES; b++) {
        double v = values_of(t, b, x.variant, x.side)[m];
        if (y) v -= values_of(t, b, y->variant, y->side)[m];
        if (b == 0)
            out->value = v;
        else
            t->work[b - 1] = v;
    }
    eval_interval(t->work, out);
}

static int fill_metric(const Bootstrap *t, int m, Arena *a, ScoreMetric *out, Error *err) {
    const Scores *s = t->s;
    size_t n = (size_t)s->variants;
    out->tuned = arena_alloc(a, 3 * n * sizeof *out->tuned);
    out->each = arena_alloc(a, n * (size_t)s->seeds * sizeof *out->each);
    if (!out->tuned || !out->each) return fail(err, DRPO_E_MEMORY, "out of memory");
    out->gain = out->tuned + n;
    out->lead = out->gain + n;
    snprintf(out->name, sizeof out->name, "%s",
             m < s->tags    ? s->tag_name[m]
             : m == s->tags ? "overall"
                            : s->reward_name[m - s->tags - 1]);
    estimate(t, m, (Term){0, SCORE_BASE}, NULL, &out->base);
    for (int v = 0; v < s->variants; v++) {
        const Term own = {v, SCORE_TUNED}, base = {v, SCORE_BASE};
        estimate(t, m, own, NULL, &out->tuned[v]);
        estimate(t, m, own, &base, &out->gain[v]);
        estimate(t, m, (Term){0, SCORE_TUNED}, &own, &out->lead[v]);
        for (int k = 0; k < s->seeds; k++) {
            double value[MOST_METRICS];
            int one = k;
            Draw d = t->whole;
            d.seed = &one;
            d.seeds = 1;
            measure(s, v, SCORE_TUNED, &d, value);
            out->each[v * s->seeds + k] = value[m];
        }
    }
    return 0;
}

static int fill_summary(Bootstrap *t, uint64_t seed, Arena *a, ScoreSummary *out, Error *err) {
    TRY(draw_all(t, seed, a, err));
    for (int m = 0; m < t->metrics; m++)
        if (!isnan(values_of(t, 0, 0, SCORE_BASE)[m])) TRY(fill_metric(t, m, a, &out->metric[out->metrics++], err));
    return 0;
}

int scores_summarise(const Scores *s, uint64_t seed, Arena *a, ScoreSummary *out, Error *err) {
    Bootstrap t = {.s = s, .metrics = s->tags + 1 + s->rewards};
    size_t sample = (size_t)s->variants * SCORE_SIDES * (size_t)t.metrics;
    *out = (ScoreSummary){.variants = s->variants, .seeds = s->seeds, .prompts = s->prompts};
    for (int i = 0; i < s->prompts; i++) out->images += scores_at(s, 0, 0, SCORE_TUNED)[i].images;
    out->metric = arena_alloc(a, sizeof *out->metric * (size_t)t.metrics);
    t.value = malloc((1 + (size_t)EVAL_RESAMPLES) * sample * sizeof *t.value);
    t.work = malloc(EVAL_RESAMPLES * sizeof *t.work);
    int code = out->metric && t.value && t.work ? 0 : fail(err, DRPO_E_MEMORY, "out of memory for the bootstrap");
    if (code == 0) code = fill_summary(&t, seed, a, out, err);
    free(t.value);
    free(t.work);
    return code;
}

const ScoreMetric *score_metric(const ScoreSummary *s, const char *name) {
    for (int i = 0; i < s->metrics; i++)
        if (strcmp(s->metric[i].name, name) == 0) return &s->metric[i];
    return NULL;
}
