/* Metrics: what a run records: metrics.jsonl (a line per update), eval.jsonl (a line per evaluation), TensorBoard
 * events.
 *
 * Everything but the key "time" of a line is the same in every repetition of a run. */
#ifndef DRPO_TRAIN_METRICS_H
#define DRPO_TRAIN_METRICS_H

#include "format/jsonl.h"
#include "format/tfevents.h"
#include "step/step.h"

typedef struct Metrics {
    JsonlWriter updates, evaluations;
    TfEvents *events;
    bool latent_distance; /* --latent-l2 is on, so the distance to the base is measured */
} Metrics;

/* Offsets of a resumed run's checkpoint; 0 starts afresh. Clears every field. */
int metrics_open(Metrics *m, const char *run, long step, long long update_bytes, long long eval_bytes, Error *err);
int metrics_close(Metrics *m, Error *err);
int metrics_sync(Metrics *m, Error *err);
/* The line of update `step` (from 1). `prompts` [n]: indices in the prompt file. */
int metrics_update(Metrics *m, long step, const StepStats *stats, const RewardSet *rewards, const size_t *prompts,
                   int n, double seconds, Error *err);

const char *metrics_phase(int phase); /* "text", "generate", ... */

#endif
