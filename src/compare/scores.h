/* Scores: every run's verdicts and rewards on the same held-out pictures, and what they say with honest intervals.
 *
 * Intervals: 95 % of 2000 bootstrap resamples. One resample draws prompts within their tag and, where there are
 * several, training seeds, both with replacement, the same draw for all variants and for the base: differences are
 * paired. A metric of a resample is taken over all drawn runs and pictures together. */
#ifndef DRPO_COMPARE_SCORES_H
#define DRPO_COMPARE_SCORES_H

#include "base/arena.h"
#include "eval/table.h"

typedef struct PromptScore {
    double images, judged, correct, reward[MAX_REWARDS];
} PromptScore;

enum { SCORE_BASE, SCORE_TUNED, SCORE_SIDES };

typedef struct Scores {
    int variants, seeds, prompts, tags, rewards;
    char tag_name[EVAL_MAX_TAGS][48], reward_name[MAX_REWARDS][64];
    int *tag;           /* [prompts], -1: none */
    PromptScore *score; /* [variants,seeds,SCORE_SIDES,prompts] */
} Scores;

int scores_new(Scores *s, int variants, int seeds, int prompts, Error *err);
void scores_free(Scores *s);
PromptScore *scores_at(const Scores *s, int variant, int seed, int side); /* [prompts] */
/* Reads the scores.jsonl of an evaluation as those of this run. */
int scores_read(Scores *s, int variant, int seed, const char *path, Error *err);
/* The run counts as its base: it had made no update. The base is taken from run `like` of the same seed. */
void scores_untrained(Scores *s, int variant, int seed, int like);

typedef struct ScoreMetric {
    char name[64]; /* a tag, "overall" or a reward */
    EvalValue base;
    EvalValue *tuned, *gain, *lead; /* [variants]: itself; less its base; the first variant less this one */
    double *each;                   /* [variants,seeds]: tuned, of one run */
} ScoreMetric;

typedef struct ScoreSummary {
    int variants, seeds, prompts, metrics;
    double images; /* of one run */
    ScoreMetric *metric;
} ScoreSummary;

/* Metrics that nothing was measured for are left out. Everything lies in the arena. */
int scores_summarise(const Scores *s, uint64_t seed, Arena *a, ScoreSummary *out, Error *err);
const ScoreMetric *score_metric(const ScoreSummary *s, const char *name); /* NULL: no such metric */

#endif
