/* Metrics: what a run records: metrics.jsonl (a line per update), eval.jsonl (a line per evaluation), candidates.jsonl
 * (a line per prompt of an update, audit.h), TensorBoard events.
 *
 * Everything but the key "time" of a line is the same in every repetition of a run. */
#ifndef DRPO_TRAIN_METRICS_H
#define DRPO_TRAIN_METRICS_H

#include "format/jsonl.h"
#include "format/tfevents.h"
#include "step/step.h"
#include "train/checkpoint.h"

typedef struct Metrics {
    JsonlWriter updates, evaluations, candidates;
    long long candidates_bytes; /* of whole updates */
    TfEvents *events;
    bool latent_distance; /* --latent-l2 is on, so the distance to the base is measured */
} Metrics;

/* `from`: the checkpoint that is resumed from; all zero starts afresh. Clears every field. */
int metrics_open(Metrics *m, const char *run, const Checkpoint *from, Error *err);
int metrics_close(Metrics *m, Error *err);
/* The step of the newest line of eval.jsonl; -1: there is none. */
int metrics_last_evaluation(const Metrics *m, long *step, Error *err);
int metrics_sync(Metrics *m, Error *err);
/* The line of update `step` (from 1). `prompts` [n]: indices in the prompt file. */
int metrics_update(Metrics *m, long step, const StepStats *stats, const RewardSet *rewards, const size_t *prompts,
                   int n, double seconds, Error *err);

const char *metrics_phase(int phase); /* "text", "generate", ... */

#endif
