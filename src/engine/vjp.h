/* Helpers shared by the files that write down gradients: vjp_<family>.c. */
#ifndef DRPO_ENGINE_VJP_H
#define DRPO_ENGINE_VJP_H

#include "engine/graph_private.h"

/* append() with the inputs as arguments. */
Value vjp_append(Graph *g, Op op, Attr attr, Shape target, int n_in, ...);
/* dy summed to x's shape where broadcasting had enlarged it. */
Value vjp_sum_like(Graph *g, Value dy, Value x);
/* View of a flat gradient [part | part | ...]: the elements from `start` on, in `shape`. */
Value vjp_part(Graph *g, Value flat, int64_t start, Shape shape);

#endif
