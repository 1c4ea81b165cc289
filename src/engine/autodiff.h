/* Reverse-mode differentiation by appending nodes.
 *
 * For seeds d(loss)/d(output) it appends the vector-Jacobian products on paths from the outputs to the requested leaves
 * and nowhere else: a frozen weight never gets a gradient and the pass stops at the first trainable layer. */
#ifndef DRPO_ENGINE_AUTODIFF_H
#define DRPO_ENGINE_AUTODIFF_H

#include "engine/graph.h"

/* outputs[i] has seed seeds[i] (same shape; usually an INPUT); leaves are INPUT or PARAM nodes. grads[j] receives the
 * node of d/d leaves[j], marked as output, or NULL where no output depends on the leaf. An op on the path that has no
 * VJP is DRPO_E_INTERNAL with its name. */
int graph_backward(Graph *g, const Value *outputs, const Value *seeds, int n_out, const Value *leaves, int n_leaf,
                   Value *grads, Error *err);

#endif
