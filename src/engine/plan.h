/* Plan: from a graph to a list of kernels and buffer offsets, before the first step.
 *
 * fuse_graph() rewrites a forward graph (before autodiff): group_norm+silu, linear/conv + residual add,
 * linear+activation. recompute_graph() (after autodiff) clones cheap-to-redo segments in front of the backward nodes
 * that need them, as few as bring the planned peak under a byte budget. plan_new() decides lifetimes and offsets (views
 * and in-place results share their input's buffer) and prepares kernels; plan_peak() is exact: activations + workspace.
 */
#ifndef DRPO_ENGINE_PLAN_H
#define DRPO_ENGINE_PLAN_H

#include "engine/backend.h"

typedef struct Plan Plan;

int fuse_graph(Graph *g, Error *err);
/* budget in bytes of activations (workspace not counted); 0: no limit. *peak receives the planned peak after the
 * rewrite. Fails with DRPO_E_MEMORY if even full recompute exceeds the budget (peak is then the least that is
 * possible). */
int recompute_graph(Graph *g, const Backend *b, size_t budget, size_t *peak, Error *err);
/* Activation bytes only (what plan_peak reports less the kernels' workspace), without preparing kernels or touching
 * memory: used by `drpo plan`. 0 when no node is an output. */
size_t plan_measure(const Graph *g, const Backend *b);

int plan_new(Graph *g, Backend *b, Plan **out, Error *err);
void plan_free(Plan *p);
size_t plan_peak(const Plan *p); /* activation arena + workspace, bytes */
int plan_kernels(const Plan *p); /* launches per run */

/* ---- execution: plan_run* only run; nothing is allocated ---- */
/* Attaches memory. Plans that never run at the same time may share one block of max(plan_peak) bytes; NULL: the plan
 * allocates its own. */
int plan_bind(Plan *p, void *memory, Error *err);
void plan_write(Plan *p, Value input, const void *host);  /* float32 (NCHW for rank 4) or int32 */
void plan_read(const Plan *p, Value output, float *host); /* any node marked output */
int plan_run(Plan *p, Error *err);                        /* everything */
int plan_run_forward(Plan *p, Error *err);                /* nodes that autodiff did not append */
int plan_run_backward(Plan *p, Error *err);               /* the rest; seeds written in between */
/* Named activation taps: calls `tap` after each kernel with its node (debugging, golden files). NULL turns it off. */
void plan_tap(Plan *p, void (*tap)(void *user, const Node *n, const void *device), void *user);
/* Seconds spent per op since the last call with reset; `seconds` has OP_COUNT entries. Off unless plan_profile(p,
 * true). */
void plan_profile(Plan *p, bool on);
void plan_times(const Plan *p, double seconds[OP_COUNT], long runs[OP_COUNT]);

#endif
