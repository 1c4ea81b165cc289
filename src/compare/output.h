/* Output: what a comparison found, as lines for people, JSON and a page. */
#ifndef DRPO_COMPARE_OUTPUT_H
#define DRPO_COMPARE_OUTPUT_H

#include <jansson.h>

#include "compare/compare.h"
#include "compare/scores.h"

typedef struct Findings {
    const Comparison *c;
    ScoreSummary full, timed; /* after all updates; at the time of the fastest run */
    bool has_timed;
    const char *metric; /* what variants are ranked by */
} Findings;

/* --rank-by, else "overall" where the scene verifier judged, else the first reward. In the arena or the config. */
const char *compare_metric_name(const Comparison *c, bool judged);
/* NULL when all runs made as many generator calls, else a line that says how they differ (arena). */
const char *compare_calls_note(const Comparison *c);
/* What the second column is, in one sentence. */
const char *compare_time_note(const Comparison *c);
double mean_calls(const Comparison *c, int variant);
double mean_seconds(const Comparison *c, int variant);
double mean_updates(const Comparison *c, int variant, bool timed);

char *findings_text(const Findings *f);   /* free() it; NULL when out of memory */
json_t *findings_json(const Findings *f); /* NULL when out of memory */
int findings_page(const Findings *f, const char *path, Error *err);

#endif
