/* Eval table: rows of images, and their summary with bootstrap intervals (table.h). */
#include "eval/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "step/gauges.h"

/* ---- rows ---- */

static int grow(void **items, size_t count, size_t *room, size_t size, Error *err) {
    if (count < *room) return 0;
    const size_t bigger = *room ? *room * 2 : 64;
    void *moved = realloc(*items, bigger * size);
    if (!moved) return fail(err, DRPO_E_MEMORY, "no memory for %zu rows of the evaluation", bigger);
    *items = moved;
    *room = bigger;
    return 0;
}

static int find_tag(EvalTable *t, const char *tag, int *index, Error *err) {
    *index = -1;
    if (!tag) return 0;
    for (int k = 0; k < t->tags; k++)
        if (strncmp(t->tag[k], tag, sizeof t->tag[k] - 1) == 0) {
            *index = k;
            return 0;
        }
    if (t->tags == EVAL_MAX_TAGS) return fail(err, DRPO_E_INPUT, "the prompts have more than %d tags", EVAL_MAX_TAGS);
    strncpy(t->tag[t->tags], tag, sizeof t->tag[0] - 1);
    *index = t->tags++;
    return 0;
}

int eval_table_add(EvalTable *t, int prompt, const char *tag, uint64_t seed, int correct, const float *rewards,
                   Error *err) {
    EvalRow row = {.prompt = prompt, .seed = seed, .correct = correct};
    TRY(find_tag(t, tag, &row.tag, err));
    for (int k = 0; k < t->rewards; k++) row.reward[k] = rewards[k];
    TRY(grow((void **)&t->row, t->rows, &t->row_room, sizeof *t->row, err));
    t->row[t->rows++] = row;
    return 0;
}

int eval_table_add_diversity(EvalTable *t, int prompt, const float *latents, int count, size_t per_image, Error *err) {
    if (count < 2) return 0;
    TRY(grow((void **)&t->diversity, t->diversities, &t->diversity_room, sizeof *t->diversity, err));
    t->diversity[t->diversities++] = (EvalDiversity){prompt, gauge_pairwise(latents, count, per_image)};
    return 0;
}

void eval_table_drop(EvalTable *t, int prompt) {
    size_t rows = 0, diversities = 0;
    for (size_t k = 0; k < t->rows; k++)
        if (t->row[k].prompt != prompt) t->row[rows++] = t->row[k];
    for (size_t k = 0; k < t->diversities; k++)
        if (t->diversity[k].prompt != prompt) t->diversity[diversities++] = t->diversity[k];
    t->rows = rows;
    t->diversities = diversities;
}

int eval_table_copy(const EvalTable *from, EvalTable *to, Error *err) {
    size_t rows = from->rows * sizeof *from->row, diversities = from->diversities * sizeof *from->diversity;
    EvalTable copy = *from;
    copy.row = malloc(rows + 1);
    copy.diversity = malloc(diversities + 1);
    if (!copy.row || !copy.diversity) {
        free(copy.row);
        free(copy.diversity);
        return fail(err, DRPO_E_MEMORY, "no memory for a copy of %zu rows of the evaluation", from->rows);
    }
    if (rows) memcpy(copy.row, from->row, rows);
    if (diversities) memcpy(copy.diversity, from->diversity, diversities);
    copy.row_room = from->rows;
    copy.diversity_room = from->diversities;
    eval_table_free(to);
    *to = copy;
    return 0;
}

void eval_table_free(EvalTable *t) {
    free(t->row);
    free(t->diversity);
    t->row = NULL;
    t->diversity = NULL;
    t->rows = t->diversities = t->row_room = t->diversity_room = 0;
}

/* ---- one prompt's sums, for both models ---- */

typedef struct ModelSums {
    double images, judged, correct, reward[MAX_REWARDS];
    double diversity; /* NaN: not measured */
} ModelSums;

typedef struct PromptSums {
    int prompt, tag;
    ModelSums model[2];
} PromptSums;

typedef struct Sums {
    PromptSums *prompt; /* [count] in order of the tag, then of the prompt */
    size_t count;
    size_t tag_first[EVAL_MAX_TAGS + 2]; /* where each tag's prompts begin; slot 0: those without a tag */
    int tags, rewards;
} Sums;

static int by_prompt(const void *a, const void *b) {
    const EvalRow *x = *(const EvalRow *const *)a, *y = *(const EvalRow *const *)b;
    if (x->prompt != y->prompt) return x->prompt < y->prompt ? -1 : 1;
    return (x->seed > y->seed) - (x->seed < y->seed);
}

static int by_tag(const void *a, const void *b) {
    const PromptSums *x = a, *y = b;
    if (x->tag != y->tag) return x->tag < y->tag ? -1 : 1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

static const EvalRow **sorted_rows(const EvalTable *t) {
    const EvalRow **rows = malloc((t->rows ? t->rows : 1) * sizeof *rows);
    for (size_t k = 0; rows && k < t->rows; k++) rows[k] = &t->row[k];
    if (rows) qsort(rows, t->rows, sizeof *rows, by_prompt);
    return rows;
}

static void add_row(ModelSums *m, const EvalRow *row, int rewards) {
    m->images += 1;
    m->judged += row->correct >= 0;
    m->correct += row->correct > 0;
    for (int k = 0; k < rewards; k++) m->reward[k] += row->reward[k];
}

static void add_model(Sums *s, int model, const EvalTable *t, const EvalRow **rows) {
    size_t at = 0;
    for (size_t k = 0; k < t->rows; k++) {
        if (k > 0 && rows[k]->prompt != rows[k - 1]->prompt) at++;
        PromptSums *p = &s->prompt[at];
        if (k == 0 || rows[k]->prompt != rows[k - 1]->prompt) {
            p->prompt = rows[k]->prompt;
            p->tag = rows[k]->tag;
            p->model[model] = (ModelSums){.diversity = NAN};
        }
        add_row(&p->model[model], rows[k], t->rewards);
    }
    s->count = t->rows ? at + 1 : 0;
    for (size_t d = 0; d < t->diversities; d++)
        for (size_t k = 0; k < s->count; k++)
            if (s->prompt[k].prompt == t->diversity[d].prompt)
                s->prompt[k].model[model].diversity = t->diversity[d].value;
}

static int check_pairs(const EvalTable *base, const EvalRow **b, const EvalTable *tuned, const EvalRow **t,
                       Error *err) {
    if (base->rows != tuned->rows || base->rewards != tuned->rewards)
        return fail(err, DRPO_E_INPUT,
                    "the base has %zu images and %d rewards, the tuned model %zu and %d; evaluate both on the same "
                    "prompts and seeds",
                    base->rows, base->rewards, tuned->rows, tuned->rewards);
    for (size_t k = 0; k < base->rows; k++)
        if (b[k]->prompt != t[k]->prompt || b[k]->seed != t[k]->seed)
            return fail(err, DRPO_E_INPUT,
                        "prompt %d with seed %llu was evaluated for one model only; use the same prompts and seeds",
                        b[k]->prompt, (unsigned long long)b[k]->seed);
    return 0;
}

static int collect(const EvalTable *base, const EvalTable *tuned, Sums *s, Error *err) {
    const EvalRow **rows[2] = {sorted_rows(base), tuned ? sorted_rows(tuned) : NULL};
    *s = (Sums){
        .prompt = calloc(base->rows ? base->rows : 1, sizeof *s->prompt), .tags = base->tags, .rewards = base->rewards};
    int code = 0;
    if (!rows[0] || (tuned && !rows[1]) || !s->prompt)
        code = fail(err, DRPO_E_MEMORY, "no memory for the evaluation's summary");
    else if (tuned)
        code = check_pairs(base, rows[0], tuned, rows[1], err);
    if (code == 0) add_model(s, 0, base, rows[0]);
    if (code == 0 && tuned) {
        add_model(s, 1, tuned, rows[1]);
        for (size_t k = 0, at = 0; k < base->rows; k++) { /* the base's tag numbers are the ones that count */
            if (k > 0 && rows[0][k]->prompt != rows[0][k - 1]->prompt) at++;
            s->prompt[at].tag = rows[0][k]->tag;
        }
    }
    if (code == 0) {
        qsort(s->prompt, s->count, sizeof *s->prompt, by_tag);
        for (int slot = 0; slot <= s->tags + 1; slot++) s->tag_first[slot] = s->count;
        for (size_t k = s->count; k-- > 0;)
            for (int slot = 0; slot <= s->prompt[k].tag + 1; slot++) s->tag_first[slot] = k;
    }
    free(rows[0]);
    free(rows[1]);
    return code;
}

/* ---- metrics of one (re)sample ---- */

/* value [tags + 1 + rewards + 1]: accuracy per tag, overall, rewards, diversity; NaN where nothing was measured. */
typedef struct Metrics {
    double value[2][EVAL_MAX_METRICS];
} Metrics;

static void add_sums(ModelSums *total, const ModelSums *m, int rewards, double *diversities) {
    total->images += m->images;
    total->judged += m->judged;
    total->correct += m->correct;
    for (int k = 0; k < rewards; k++) total->reward[k] += m->reward[k];
    if (isnan(m->diversity)) return;
    total->diversity += m->diversity;
    *diversities += 1;
}

/* resample < 0: the sample itself; else prompts are drawn again within their tag. */
static void measure(const Sums *s, int model, uint64_t seed, int resample, double *value) {
    ModelSums all = {0};
    double overall = 0, judged_tags = 0, diversities = 0;
    for (int slot = 0; slot <= s->tags; slot++) {
        const size_t first = s->tag_first[slot], count = s->tag_first[slot + 1] - first;
        const RngKey key = {seed, RNG_BOOTSTRAP, (uint32_t)resample, (uint32_t)slot, 0};
        ModelSums tag = {0};
        double unused = 0;
        for (size_t k = 0; k < count; k++) {
            const ModelSums *m = &s->prompt[first + (resample < 0 ? k : rng_below(key, k, count))].model[model];
            add_sums(&tag, m, 0, &unused);
            add_sums(&all, m, s->rewards, &diversities);
        }
        if (slot == 0) continue;
        value[slot - 1] = tag.judged > 0 ? tag.correct / tag.judged : NAN;
        if (tag.judged > 0) {
            overall += value[slot - 1];
            judged_tags += 1;
        }
    }
    value[s->tags] = judged_tags > 0 ? overall / judged_tags : NAN;
    for (int k = 0; k < s->rewards; k++) value[s->tags + 1 + k] = all.reward[k] / all.images;
    value[s->tags + 1 + s->rewards] = diversities > 0 ? all.diversity / diversities : NAN;
}

static int by_number(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The 2.5 % and 97.5 % points, linear between neighbours; resamples that measured nothing are left out. */
void eval_interval(double *values, EvalValue *out) {
    size_t n = 0;
    for (size_t k = 0; k < EVAL_RESAMPLES; k++)
        if (!isnan(values[k])) values[n++] = values[k];
    out->low = out->high = NAN;
    if (!n) return;
    qsort(values, n, sizeof *values, by_number);
    for (int side = 0; side < 2; side++) {
        const double at = (side ? 0.975 : 0.025) * (double)(n - 1);
        const size_t below = (size_t)at, above = below + 1 < n ? below + 1 : below;
        const double point = values[below] + (at - (double)below) * (values[above] - values[below]);
        *(side ? &out->high : &out->low) = point;
    }
}

/* ---- summary ---- */

static void fill_metric(const Metrics *resamples, const Metrics *whole, int at, bool compared, double *work,
                        EvalMetric *m) {
    EvalValue *part[3] = {&m->base, &m->tuned, &m->difference};
    for (int k = 0; k < (compared ? 3 : 1); k++) {
        part[k]->value = k < 2 ? whole->value[k][at] : whole->value[1][at] - whole->value[0][at];
        for (int b = 0; b < EVAL_RESAMPLES; b++)
            work[b] = k < 2 ? resamples[b].value[k][at] : resamples[b].value[1][at] - resamples[b].value[0][at];
        eval_interval(work, part[k]);
    }
}

static const char *metric_name(const EvalTable *t, int at) {
    if (at < t->tags) return t->tag[at];
    if (at == t->tags) return "overall";
    return at < t->tags + 1 + t->rewards ? t->reward_name[at - t->tags - 1] : "diversity";
}

int eval_summarise(const EvalTable *base, const EvalTable *tuned, uint64_t seed, EvalSummary *out, Error *err) {
    *out = (EvalSummary){.images = base->rows, .compared = tuned != NULL};
    if (base->rows == 0) return fail(err, DRPO_E_INPUT, "no image was evaluated; give at least one prompt");
    Sums s;
    int code = collect(base, tuned, &s, err);
    Metrics whole, *resamples = malloc(EVAL_RESAMPLES * sizeof *resamples);
    double *work = malloc(EVAL_RESAMPLES * sizeof *work);
    if (code == 0 && (!resamples || !work))
        code = fail(err, DRPO_E_MEMORY, "no memory for the bootstrap of the evaluation");
    for (int model = 0; code == 0 && model < (tuned ? 2 : 1); model++) {
        measure(&s, model, seed, -1, whole.value[model]);
#pragma omp parallel for schedule(static)
        for (int b = 0; b < EVAL_RESAMPLES; b++) measure(&s, model, seed, b, resamples[b].value[model]);
    }
    for (int at = 0; code == 0 && at < s.tags + s.rewards + 2; at++) {
        if (isnan(whole.value[0][at])) continue;
        EvalMetric *m = &out->metric[out->metrics++];
        strncpy(m->name, metric_name(base, at), sizeof m->name - 1);
        fill_metric(resamples, &whole, at, tuned != NULL, work, m);
    }
    out->prompts = s.count;
    free(s.prompt);
    free(resamples);
    free(work);
    return code;
}

const EvalMetric *eval_metric(const EvalSummary *s, const char *name) {
    for (int k = 0; k < s->metrics; k++)
        if (strcmp(s->metric[k].name, name) == 0) return &s->metric[k];
    return NULL;
}
