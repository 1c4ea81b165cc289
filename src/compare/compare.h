/* Compare: several option sets trained and evaluated alike, for the verbs `compare` and `sweep`.
 *
 *     OUT/<name>-<seed>/        a run of `train`, with eval/ (held-out prompts) and timed/ (at the time of the fastest)
 *     OUT/tune/<name>-<key>-<value>/  runs that only choose a value by training prompts
 *     OUT/table.json, table.txt, report.html
 *
 * Runs are made in this process by the functions behind `train` and `eval`, so that a stop, C callbacks as rewards and
 * programs that use the library work as in one run. Whatever is finished is never made again, and the base is judged
 * once for all runs that are judged alike. */
#ifndef DRPO_COMPARE_COMPARE_H
#define DRPO_COMPARE_COMPARE_H

#include "eval/verb_eval.h"
#include "train/job.h"

enum { MAX_VARIANTS = 64, MAX_OVERRIDES = 32, MAX_TUNED = 32, MAX_BASES = 4 };

typedef struct Override {
    const char *key, *value;
} Override;

typedef struct Variant {
    const char *name; /* for people: "dpo", "candidates=8" */
    const char *slug; /* the same in names of folders */
    Override override[MAX_OVERRIDES];
    int overrides;
} Variant;

typedef struct Run {
    const char *path, *label;
    long updates;
    double calls, seconds; /* pictures that were generated and scored; spent in updates alone */
    const char *timed;     /* folder of the evaluation at the time of the fastest; NULL: no update was made by then */
    long timed_updates;    /* of that adapter */
    double timed_seconds;  /* of the fastest variant */
} Run;

typedef struct Trial {
    const char *value;
    double score; /* NaN: training diverged */
} Trial;

typedef struct Tuning {
    const char *key; /* NULL: nothing is tuned */
    int values;
    Trial *trial; /* [variants,values] */
    int *best;    /* [variants] */
} Tuning;

/* What the base does on the pictures of evaluations with these settings. */
typedef struct KnownBase {
    const char *settings; /* NULL: a free place */
    EvalBase half;
} KnownBase;

typedef struct Comparison {
    const Job *job;
    Arena *arena;
    const char *out;
    Variant variant[MAX_VARIANTS];
    int variants, seeds;
    Run *run; /* [variants,seeds] */
    Tuning tuning;
    int jobs, begun; /* trainings in all, begun so far: "[3/12]" */
    KnownBase base[MAX_BASES];
    int bases; /* seen so far; they take the places in turn */
    int lock;  /* of the folder */
} Comparison;

enum { TIMED_CHECKPOINT, TIMED_RETRAIN, TIMED_OFF };

/* ---- variants.c: what is compared ---- */
int variants_of_methods(Comparison *c, Error *err); /* --methods, --set */
int variants_of_grid(Comparison *c, Error *err);    /* --vary */
/* "KEY=A,B,C" or, where values hold commas, "KEY=A,B;C,D": canonical key and values, both in the arena. */
int vary_parse(const char *text, const char *option, drpo_verb verb, Arena *a, const char **key, const char **values,
               int max, int *n, Error *err);
int variant_override(Variant *v, const char *key, const char *value, Error *err);
const char *folder_name(Arena *a, const char *text); /* letters that folders and --lora can hold */
/* The options of a variant's training run; config_free it. */
int variant_config(const Comparison *c, const Variant *v, Config **out, Error *err);

/* ---- children.c: one run, one evaluation ---- */
typedef struct EvalPlan {
    const char *prompts;
    long long limit, pictures, seed;
} EvalPlan;
/* Trains in folder `path`, goes on with what is there, or does nothing when it is finished. Takes no part of `config`
 * over. */
int child_train(Comparison *c, Config *config, const char *path, const char *label, Error *err);
/* Evaluates the adapter `lora` of a run with options `config` into folder `out`, unless that is done. `updates` it was
 * trained for. */
int child_evaluate(Comparison *c, const Config *config, const EvalPlan *plan, const char *lora, long updates,
                   const char *out, const char *label, Error *err);

/* ---- clock.c: time and calls of a run ---- */
int run_read_clock(Run *r, Error *err);
/* The adapter of run `r` after at most so many updates, as far as a checkpoint (or the end) holds it; NULL: none.
 * *made: updates it has seen. */
const char *run_adapter_by(const Run *r, long updates, Arena *a, long *made);
/* Fills the timed fields: every run after the seconds in which the fastest variant was finished. */
int compare_at_same_time(Comparison *c, const EvalPlan *plan, Error *err);

/* ---- tune.c ---- */
int tuning_open(Comparison *c, Error *err);  /* reads --tune; nothing when it is not given */
int compare_tune(Comparison *c, Error *err); /* gives every variant the value it did best with */

#endif
