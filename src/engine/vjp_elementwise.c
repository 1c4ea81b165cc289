/* Gradients of elementwise and broadcasting ops and of reductions.
 *
 *     y = a + b        da = dy                      y = alpha x + beta   dx = alpha dy
 *     y = a * b        da = dy * b                  y = f(x)             dx = f'(x) dy
 *     y = m x / (1-p)  dx = m dy / (1-p)
 *
 * where a was broadcast, its gradient is summed back to a's shape. */
#include "engine/vjp.h"

Value vjp_sum_like(Graph *g, Value dy, Value x) {
    if (!dy || shape_equal(dy->shape, x->shape)) return dy;
    return sum_to(g, dy, x->shape);
}

void vjp_add(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = vjp_sum_like(g, dy, n->in[i]);
}

void vjp_mul(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = vjp_sum_like(g, mul(g, dy, n->in[1 - i]), n->in[i]);
}

void vjp_affine(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = affine(g, dy, n->attr.alpha, 0);
}

/* relu'(x) can be told from y = relu(x) as well, and then nobody needs x any more: y may take its place. */
void vjp_act(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value kept = n->attr.act == ACT_RELU ? n : n->in[0];
    if (need[0]) dx[0] = vjp_append(g, OP_ACT_GRAD, n->attr, n->shape, 2, kept, dy);
}

void vjp_geglu(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_GEGLU_GRAD, n->attr, n->in[0]->shape, 2, n->in[0], dy);
}

/* The same mask once more. */
void vjp_dropout(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_DROPOUT, n->attr, (Shape){0}, 2, dy, n->in[1]);
}

void vjp_sum_to(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = broadcast_to(g, dy, n->in[0]->shape);
}

void vjp_broadcast_to(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = sum_to(g, dy, n->in[0]->shape);
}
