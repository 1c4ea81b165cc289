/* Gradients of the norms, y = (x - mean) / sqrt(var + eps) * w + b.
 *
 * With h = (x - mean) / sqrt(var + eps) and e = dy * w over the m values that share their statistics:
 *     dx = (e - mean(e) - h mean(e h)) / sqrt(var + eps),  dw = sum dy h,  db = sum dy
 * RMS norm, h = x / sqrt(mean(x^2) + eps), has no mean to take away: dx = (dy - h mean(dy h)) / sqrt(mean(x^2) + eps).
 * The kernels recompute h from x, which is why no statistics are stored; with a fused SiLU they recompute its input
 * too. */
#include "engine/vjp.h"

/* Cuts [dw | db] and hands each to its parameter. */
static void cut_weight_and_bias(Graph *g, Node *n, Value flat, const bool *need, Value *dx) {
    int64_t channels = shape_count(n->in[1]->shape);
    if (need[1]) dx[1] = vjp_part(g, flat, 0, n->in[1]->shape);
    if (need[2]) dx[2] = vjp_part(g, flat, channels, n->in[2]->shape);
}

void vjp_group_norm(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value x = n->in[0], w = n->in[1], b = n->in[2];
    if (need[0]) dx[0] = vjp_append(g, OP_GROUP_NORM_DX, n->attr, x->shape, 4, x, w, b, dy);
    if (!need[1] && !need[2]) return;
    Shape flat = shape1(2 * shape_count(w->shape));
    cut_weight_and_bias(g, n, vjp_append(g, OP_GROUP_NORM_DWB, n->attr, flat, 4, x, w, b, dy), need, dx);
}

void vjp_layer_norm(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value x = n->in[0], w = n->in[1];
    if (need[0]) dx[0] = vjp_append(g, OP_LAYER_NORM_DX, n->attr, x->shape, 3, x, w, dy);
    if (!need[1] && !need[2]) return;
    Shape flat = shape1(2 * shape_count(w->shape));
    cut_weight_and_bias(g, n, vjp_append(g, OP_LAYER_NORM_DWB, n->attr, flat, 2, x, dy), need, dx);
}

void vjp_rms_norm(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_RMS_NORM_DX, n->attr, n->shape, 2, n->in[0], dy);
}
