/* Part: one network of the generator (autoencoder, text encoder) that is trained by itself before the UNet is.
 *
 *     part_open        trained copies of its weights, from random numbers; AdamW
 *     part_pass_begin  -> the caller appends the network: pass.in -> pass.out
 *     part_pass_plan   autodiff and plan
 *     each update:     forward, d(loss)/d(out) made by the caller, backward, ..., part_update
 *
 * A network may be split into several passes; their gradients add up. */
#ifndef DRPO_PRETRAIN_PART_H
#define DRPO_PRETRAIN_PART_H

#include "engine/plan.h"
#include "model/build.h"
#include "step/optimize.h"
#include "train/job.h"

typedef struct PartOptions {
    uint64_t seed;
    int threads, batch, steps;
    float lr; /* rises over WARMUP updates and falls as a cosine */
} PartOptions;

typedef struct Part {
    PartOptions options;
    Adapter *weights;
    Backend *backend;
    Optimizer optimizer;
    float *grad; /* [weights->count], of this update */
} Part;

typedef struct PartPass {
    Arena *arena;
    Graph *graph;
    Plan *plan;
    Value in, out;                   /* set by the caller between begin and plan */
    Value seed, in_grad, *leaf_grad; /* d(loss)/d(out), d(loss)/d(in) or NULL, of every weight or NULL */
    float *staging;
} PartPass;

/* `like` gives names and shapes and outlives the part. */
int part_open(Part *p, const Weights *like, const PartOptions *o, Error *err);
void part_close(Part *p); /* fine after a failed open, and of zeros */
int part_pass_begin(const Part *p, PartPass *pass, Build *b, Error *err);
/* by_input: in_grad is wanted too */
int part_pass_plan(const Part *p, PartPass *pass, bool by_input, Error *err);
void part_pass_close(PartPass *pass);

int part_forward(PartPass *pass, const void *in, float *out, Error *err);
/* slope: d(loss)/d(out). in_slope: d(loss)/d(in), NULL if it was not wanted. */
int part_backward(Part *p, PartPass *pass, const float *slope, float *in_slope, Error *err);
/* One update with the gradient that has come together; the next one begins from 0. */
int part_update(Part *p, Error *err);
/* "<what> 120/1000  loss 0.1234  2:10 left" */
void part_progress(const Job *job, const char *what, const Part *p, double loss, double seconds);

#endif
