/* Eval table: how good the images of a base and of a tuned model are on the same prompts and seeds, with honest
 * intervals.
 *
 * Accuracy per tag; overall = mean over tags (GenEval's task score); mean of every reward; diversity. Intervals: 95 %
 * of 2000 bootstrap resamples of the prompts within their tag. The difference is PAIRED: both models see the same
 * resampled prompts. */
#ifndef DRPO_EVAL_TABLE_H
#define DRPO_EVAL_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "step/step_types.h"

enum { EVAL_MAX_TAGS = 32, EVAL_RESAMPLES = 2000, EVAL_MAX_METRICS = EVAL_MAX_TAGS + MAX_REWARDS + 2 };

/* One image. */
typedef struct EvalRow {
    int prompt; /* index in the prompt file */
    uint64_t seed;
    int tag;     /* index into EvalTable.tag, -1: none */
    int correct; /* 0, 1; -1: nobody judged it */
    float reward[MAX_REWARDS];
} EvalRow;

typedef struct EvalDiversity {
    int prompt;
    double value;
} EvalDiversity;

/* The images of one model. Start from {0} with the rewards' names filled in. */
typedef struct EvalTable {
    int rewards;
    char reward_name[MAX_REWARDS][64];
    int tags;
    char tag[EVAL_MAX_TAGS][48]; /* in order of first appearance */
    EvalRow *row;
    size_t rows, row_room;
    EvalDiversity *diversity;
    size_t diversities, diversity_room;
} EvalTable;

/* tag may be NULL; rewards [table->rewards]. */
int eval_table_add(EvalTable *t, int prompt, const char *tag, uint64_t seed, int correct, const float *rewards,
                   Error *err);
/* Mean pairwise RMS distance of one prompt's latents [count, per_image]; nothing is recorded for fewer than two. */
int eval_table_add_diversity(EvalTable *t, int prompt, const float *latents, int count, size_t per_image, Error *err);
/* Takes a prompt out again: what could not be scored for one model counts for neither. */
void eval_table_drop(EvalTable *t, int prompt);
/* `to` may hold rows; they go. */
int eval_table_copy(const EvalTable *from, EvalTable *to, Error *err);
void eval_table_free(EvalTable *t);

typedef struct EvalValue {
    double value, low, high; /* 95 % interval */
} EvalValue;

typedef struct EvalMetric {
    char name[64]; /* a tag, "overall", a reward's name or "diversity" */
    EvalValue base, tuned, difference;
} EvalMetric;

typedef struct EvalSummary {
    int metrics;
    EvalMetric metric[EVAL_MAX_METRICS];
    size_t prompts, images; /* of one model */
    size_t failed;          /* prompts that are left out because no reward could score them */
    bool compared;          /* tuned and difference are filled */
} EvalSummary;

/* The 2.5 % and 97.5 % points of EVAL_RESAMPLES values, which are sorted and compacted; those that are NaN are left
 * out. */
void eval_interval(double *values, EvalValue *out);
/* `tuned` NULL: the base alone. Both must hold the same prompts and seeds. Tags without a verdict have no metric. */
int eval_summarise(const EvalTable *base, const EvalTable *tuned, uint64_t seed, EvalSummary *out, Error *err);
const EvalMetric *eval_metric(const EvalSummary *s, const char *name); /* NULL: no such metric */
/* Lines for people, released with free(); NULL when out of memory. */
char *eval_summary_text(const EvalSummary *s);
/* {"prompts", "images", "prompts_failed" (if any), "metrics": {NAME: {"base", "base_interval", "tuned",
 * "tuned_interval", "difference", "interval"}}} */
json_t *eval_summary_json(const EvalSummary *s);

#endif
