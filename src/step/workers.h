/* Workers: the passes of one update, once for every prompt that is learned from at the same time.
 *
 * Kernels of a small model are too short to share among threads: waiting for one another costs more than the
 * arithmetic. So each thread takes a prompt of its own through all stages, as long as the activations of all fit the
 * budget; what threads are left over split the kernels. Gradients are added in the order of the prompts, so that the
 * update is the same, to the bit, for any number of workers. */
#ifndef DRPO_STEP_WORKERS_H
#define DRPO_STEP_WORKERS_H

#include "step/candidates.h"
#include "step/networks.h"

enum { MAX_WORKERS = 256 };

typedef struct Worker {
    Networks net;
    Candidates candidates;
    int threads;          /* of its kernels */
    Backend *shared;      /* owned; NULL: the only worker uses the caller's backend */
    const Prompt *prompt; /* that it learns from now */
    float *text;          /* its text: states [T,D], pooled [P] */
    float *grad;          /* [adapter->count] of its prompt */
    StepStats stats;      /* of its prompt */
    Error err;            /* of its prompt */
} Worker;

typedef struct Workers {
    Worker *worker;
    int count;
} Workers;

/* As many workers as prompts, the budget (o->budget is for all of them) and, unless `more`, threads allow, at least
 * one.
 */
int workers_open(Pipeline *p, Backend *b, const NetworksOptions *o, int threads, bool more, int prompts, Workers *out,
                 Error *err);
void workers_close(Workers *w);

/* Runs work(worker, user) for the first n workers at the same time, or for fewer where the system has no more threads.
 */
void workers_run(Workers *w, int n, void (*work)(Worker *worker, void *user), void *user);

#endif
