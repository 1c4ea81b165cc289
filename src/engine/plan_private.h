/* A Plan as plan.c makes it and exec.c runs it. */
#ifndef DRPO_ENGINE_PLAN_PRIVATE_H
#define DRPO_ENGINE_PLAN_PRIVATE_H

#include "engine/graph_private.h"
#include "engine/layout.h"
#include "engine/plan.h"

typedef struct Step {
    const Node *node;
    Kernel kernel; /* run is NULL for views */
    void *out, *in[MAX_INPUTS];
} Step;

struct Plan {
    Arena *arena;
    Backend *backend;
    Layout layout;
    Step *step;
    int n_step, n_forward, n_kernel;
    int n_weight;
    void **weight;             /* by node id: Backend.param of PARAM nodes that kernels read */
    const Param **param;       /* whose, for Backend.forget: the graph may be gone before the plan */
    size_t workspace_at, peak; /* bytes */
    char *memory;
    bool owns_memory;
    void (*tap)(void *user, const Node *n, const void *device);
    void *tap_user;
    bool profile;
    double seconds[OP_COUNT];
    long runs[OP_COUNT];
};

/* Where a node's values are; NULL before plan_bind and for nodes that no output needs. */
void *plan_address(const Plan *p, const Node *n);
void plan_release_memory(Plan *p);

#endif
