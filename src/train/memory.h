/* Memory: what a run will take, known before it takes it.
 *
 * Verbs open everything with weights and blocks deferred (backend.h); then memory_ready compares what they need with
 * what there is, encodes the run's prompts, lets the text encoders go, and only then fills memory. The process as it is
 * at that moment, with its libraries, plans and generated code, is measured rather than guessed. */
#ifndef DRPO_TRAIN_MEMORY_H
#define DRPO_TRAIN_MEMORY_H

#include "train/session.h"

/* Bytes. peak = process + the larger of two phases: text, when the encoders leave memory before the rest is filled, and
 * the rest. */
typedef struct MemoryPlan {
    size_t process;       /* now: program, libraries, plans, what is allocated already */
    size_t text;          /* encoders: weights and activations */
    bool text_goes;       /* before the rest is filled */
    size_t blocks;        /* weights in the layouts of the kernels, and activations */
    size_t mapped;        /* weights that are read from their files */
    RewardMemory rewards; /* networks of rewards */
    size_t records; /* what the verb has allocated and not touched: adapter's moments, pictures, encoded prompts */
    size_t peak;
    size_t needed; /* of it: without weights that may leave memory and be read again */
    size_t limit;  /* that the run may use: --memory, else what the machine has; 0: unknown */
} MemoryPlan;

/* Before anything is planned: where encoded prompts cannot be kept although nobody named the folder, a warning, and the
 * text encoders stay. */
void memory_texts(const Job *job, Session *s);
/* records: see above, but for encoded prompts of which there are `prompts`. mapped: weights beside the pipeline's that
 * are read from their files. rewards NULL: none. */
void memory_plan(const Session *s, const Config *c, size_t records, size_t mapped, size_t prompts,
                 const RewardMemory *rewards, MemoryPlan *out);
/* A sentence that says what is needed and what there is; `advice` says what would fit. */
int memory_refuse(const MemoryPlan *m, const char *advice, Error *err);
/* Encodes the prompts and fills memory. Comes after the plan was found to fit. */
int memory_commit(const Job *job, Session *s, const char *const *prompts, size_t n, Error *err);
/* All of it for a verb that draws pictures of these prompts. */
int memory_fill(const Job *job, Session *s, const PromptList *prompts, size_t records, Error *err);

#endif
