/* What the files of the engine core share about graphs and nobody above it sees. */
#ifndef DRPO_ENGINE_GRAPH_PRIVATE_H
#define DRPO_ENGINE_GRAPH_PRIVATE_H

#include "engine/graph.h"

struct Graph {
    Arena *arena;
    Node **node;
    int n, capacity;
    int segment;   /* given to nodes that are appended now */
    bool backward; /* autodiff is appending */
    Error mistake; /* the first one; code 0: none */
    Node **params; /* PARAM nodes, for one node per Param */
    int n_params, params_capacity;
};

/* Rules of ops.def. A shape rule sets n->shape or writes why it cannot into `reason` and returns false. */
enum { REASON = 256 };
typedef bool (*ShapeRule)(Node *n, Shape target, char reason[REASON]);
/* A VJP sets dx[i] for every input with need[i], given dy = d(loss)/d(n). */
typedef void (*Vjp)(Graph *g, Node *n, Value dy, const bool *need, Value *dx);

#define OP(NAME, FEWEST, MOST, SHAPE, VJP)                                                                             \
    bool SHAPE(Node *n, Shape target, char reason[REASON]);                                                            \
    void VJP(Graph *g, Node *n, Value dy, const bool *need, Value *dx);
#include "engine/ops.def"
#undef OP

typedef struct OpInfo {
    const char *name;
    int fewest, most; /* inputs */
    ShapeRule shape;
    Vjp vjp;
} OpInfo;
const OpInfo *op_info(Op op);

/* Adds a finished node to the list as it is; fails only when out of memory. */
Value graph_push(Graph *g, const Node *n);
/* Replaces the list (arena memory) and renumbers it. */
void graph_set_nodes(Graph *g, Node **node, int n);
static inline bool is_leaf(const Node *n) { return n->op == OP_INPUT || n->op == OP_PARAM; }

#endif
