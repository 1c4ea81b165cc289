/* Checkpoint: everything that the next update depends on: adapter, moments, counters. Written under another name, then
 * renamed.
 *
 *   checkpoint-<step>/adapter_model.safetensors, adapter_config.json   the adapter as PEFT reads it
 *                     ema/                                             with --ema: its moving average, likewise
 *                     kept/                                            with --stop-when: that of the evaluation to keep
 *                     optimizer.safetensors                            m, v [count]
 *                     state.json                                       step, hashes, sizes of the records */
#ifndef DRPO_TRAIN_CHECKPOINT_H
#define DRPO_TRAIN_CHECKPOINT_H

#include "model/lora.h"
#include "model/pipeline.h"
#include "step/optimize.h"

/* What must be the same for a resumed run. */
typedef struct RunIdentity {
    char config[65], model[65], prompts[65]; /* SHA-256 */
} RunIdentity;

typedef struct Checkpoint {
    long step;
    RunIdentity identity;
    double method;                       /* step_method_state */
    long long metrics_bytes, eval_bytes; /* length of metrics.jsonl and eval.jsonl when it was written */
    long long candidates_bytes;          /* likewise of candidates.jsonl; -1: not known, as in older checkpoints */
    long kept;                           /* step of the evaluation whose adapter is in kept/; -1: none */
} Checkpoint;

/* The adapters of a run. */
typedef struct RunAdapters {
    Adapter *last, *average; /* average: NULL without --ema */
    Adapter *kept;           /* NULL without --stop-when */
} RunAdapters;

/* A PEFT folder, or a diffusers unet folder inside `folder`. */
int adapter_save(const Adapter *a, const Pipeline *p, const char *folder, const LoraMeta *meta, Error *err);
int checkpoint_write(const char *run, const Checkpoint *c, const Pipeline *p, const RunAdapters *a,
                     const LoraMeta *meta, const Optimizer *o, Error *err);
/* Reads and verifies one into `a` and `o`, which are allocated. `expected`: the identity of this run. */
int checkpoint_read(const char *path, Pipeline *p, const RunIdentity *expected, const RunAdapters *a, Optimizer *o,
                    Checkpoint *out, Error *err);

#endif
