/* Layout: which nodes run, in which order, and where in one block of memory each result lives. Shared by plan and
 * recompute. */
#ifndef DRPO_ENGINE_LAYOUT_H
#define DRPO_ENGINE_LAYOUT_H

#include "engine/backend.h"

enum { BUFFER_ALIGN = 64 };

typedef struct Buffer {
    size_t bytes, offset;
    int birth, death; /* first and last step that touch it; inputs are born before step 0, outputs die after the last */
} Buffer;

typedef struct Layout {
    Node **step; /* needed nodes without leaves: the forward pass, then what autodiff appended */
    int n_step, n_forward;
    Buffer *buffer;
    int n_buffer;
    /* by node id */
    Node **root;   /* the node whose memory a view shows (itself for others); NULL: not needed for any output */
    size_t *shift; /* bytes from the root's first element */
    int *holder;   /* buffer of the root; -1 for parameters */
    size_t bytes;  /* of the whole block */
} Layout;

/* Everything lives in `arena`. Fails when no node is marked as output. */
int layout_make(const Graph *g, size_t real_bytes, Arena *arena, Layout *out, Error *err);
static inline size_t align_up(size_t bytes) { return (bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN; }

#endif
