/* Gradients of resampling and pooling over cells of q x q pixels.
 *
 *     y = mean(cell)                 dx = dy / q^2
 *     y = sqrt(var(cell) + eps)      dx = dy (x - mean) / (q^2 y)
 *     y = x repeated 2 x 2           dx = sum of the four dy */
#include "engine/vjp.h"

void vjp_upsample(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_UPSAMPLE2X_GRAD, (Attr){0}, n->in[0]->shape, 1, dy);
}

void vjp_unshuffle(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = pixel_shuffle(g, dy, n->attr.pool);
}

void vjp_shuffle(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = pixel_unshuffle(g, dy, n->attr.pool);
}

void vjp_avg_pool(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_AVG_POOL_GRAD, n->attr, n->in[0]->shape, 1, dy);
}

void vjp_pool_std(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_POOL_STD_GRAD, n->attr, n->in[0]->shape, 3, n->in[0], n, dy);
}
