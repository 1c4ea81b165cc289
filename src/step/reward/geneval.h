/* GenEval: what a prompt of the benchmark asks for, and whether the objects found in a picture fulfil it.
 *
 * Three parts that know nothing of one another: the task (metadata -> clauses), the rule (detections -> verdict), and
 * whoever finds the objects. No pictures and no networks here. */
#ifndef DRPO_STEP_REWARD_GENEVAL_H
#define DRPO_STEP_REWARD_GENEVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { GENEVAL_CLASSES = 80, GENEVAL_COLORS = 10, GENEVAL_RELATIONS = 4, GENEVAL_MAX_CLAUSES = 8 };

extern const char *const geneval_class_name[GENEVAL_CLASSES]; /* the detector's COCO order */
extern const char *const geneval_color_name[GENEVAL_COLORS];
extern const char *const geneval_relation_name[GENEVAL_RELATIONS]; /* left of, right of, above, below */
int geneval_class(const char *name);                               /* -1: none; COCO's own spellings count too */
int geneval_color(const char *name);                               /* -1: none */

/* `count` objects of `class`; in an exclude clause: so many are too many. */
typedef struct GenevalClause {
    int class, count;
    int color;            /* -1: any */
    int relation, target; /* -1: anywhere; target: an earlier include clause */
} GenevalClause;

typedef struct GenevalTask {
    char tag[32];
    GenevalClause include[GENEVAL_MAX_CLAUSES], exclude[GENEVAL_MAX_CLAUSES];
    int includes, excludes;
} GenevalTask;

/* Strict: unknown classes, colours and relations, later targets and surplus keys are errors. */
int geneval_task_parse(const char *metadata, GenevalTask *out, Error *err);

/* One detection. */
typedef struct GenevalObject {
    int class;
    double score;
    double box[4];        /* x1, y1, x2, y2 in pixels, y downwards */
    int color;            /* as its detector sees it, -1: not said */
    const uint32_t *runs; /* mask: lengths of runs outside, inside, outside, ... down the columns; NULL: none */
    int n_runs;
} GenevalObject;

typedef struct GenevalOptions {
    double threshold, counting_threshold; /* scores must exceed it; the second one in tag "counting" */
    double max_overlap;                   /* IoU at which the less certain of two objects is dropped; 1: never */
    double position_threshold;            /* share of both sizes by which an offset must exceed 0 */
    int max_objects;                      /* of one class */
} GenevalOptions;

extern const GenevalOptions geneval_defaults;

/* The objects of one picture that count: by class, surest first (equal scores in their order). */
typedef struct GenevalKept {
    const GenevalObject **object; /* released by geneval_kept_free */
    int first[GENEVAL_CLASSES + 1];
} GenevalKept;

int geneval_keep(const GenevalTask *task, const GenevalOptions *o, const GenevalObject *objects, int n,
                 GenevalKept *out, Error *err);
void geneval_kept_free(GenevalKept *k);

/* Names the colours of objects of one class in one picture; without it the detector's word is taken. */
typedef int (*GenevalColorist)(void *user, int class, const GenevalObject *const *objects, int n, int *colors,
                               Error *err);

typedef struct GenevalVerdict {
    bool correct;
    char reason[512]; /* "" when correct; else one line per clause that failed */
} GenevalVerdict;

int geneval_judge(const GenevalTask *task, const GenevalOptions *o, const GenevalKept *kept, GenevalColorist colorist,
                  void *user, GenevalVerdict *out, Error *err);

/* Bits 1 << relation that A has to B. `threshold`: position_threshold. */
unsigned geneval_relations(const double a[4], const double b[4], double threshold);

#endif
