/* Gradients of the products.
 *
 *     y = alpha x w^T + bias + residual     dx = alpha dy w     dw = alpha dy^T x     dbias = sum of rows of dy
 *     y = conv(x, w) + bias + residual      likewise with the transposed convolution and the correlation of x and dy
 *     y = softmax(alpha q k^T) v            one kernel makes dq, dk and dv: they share the recomputed softmax
 *
 * An activation fused into a product hides the value its derivative needs; autodiff splits such nodes before it starts.
 */
#include "engine/vjp.h"

/* dy with all but the channel dimension summed: [out]. */
static Value bias_gradient(Graph *g, Value dy, Value bias) {
    int64_t out = shape_count(bias->shape);
    Value rows = dy->shape.rank == 4 ? dy : reshape(g, dy, shape2(shape_count(dy->shape) / out, out));
    Value sum = sum_to(g, rows, dy->shape.rank == 4 ? shape4(1, out, 1, 1) : shape2(1, out));
    return reshape(g, sum, bias->shape);
}

void vjp_linear(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value x = n->in[0], w = n->in[1];
    Attr attr = {.alpha = n->attr.alpha};
    if (need[0]) dx[0] = vjp_append(g, OP_LINEAR_DX, attr, x->shape, 2, dy, w);
    if (need[1]) dx[1] = vjp_append(g, OP_LINEAR_DW, attr, w->shape, 2, x, dy);
    if (need[2]) dx[2] = bias_gradient(g, dy, n->in[2]);
    if (need[3]) dx[3] = dy;
}

void vjp_conv2d(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value x = n->in[0], w = n->in[1];
    Attr attr = {.stride = n->attr.stride, .pad = n->attr.pad};
    if (need[0]) dx[0] = vjp_append(g, OP_CONV2D_DX, attr, x->shape, 2, dy, w);
    if (need[1]) dx[1] = vjp_append(g, OP_CONV2D_DW, attr, w->shape, 2, x, dy);
    if (need[2]) dx[2] = bias_gradient(g, dy, n->in[2]);
    if (need[3]) dx[3] = dy;
}

static Value scaled_matmul(Graph *g, float alpha, Value a, Value b, bool trans_a, bool trans_b) {
    Value y = matmul(g, a, b, trans_a, trans_b);
    if (y) y->attr.alpha = alpha;
    return y;
}

/* y = alpha A B with A = a or a^T, B = b or b^T: dA = alpha dy B^T, dB = alpha A^T dy, transposed back where needed. */
void vjp_matmul(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Value a = n->in[0], b = n->in[1];
    bool ta = n->attr.trans_a, tb = n->attr.trans_b;
    float alpha = n->attr.alpha;
    if (need[0]) dx[0] = ta ? scaled_matmul(g, alpha, b, dy, tb, true) : scaled_matmul(g, alpha, dy, b, false, !tb);
    if (need[1]) dx[1] = tb ? scaled_matmul(g, alpha, dy, a, true, ta) : scaled_matmul(g, alpha, a, dy, !ta, false);
}

void vjp_attention(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    int64_t start = 0, total = 0;
    for (int i = 0; i < 3; i++) total += shape_count(n->in[i]->shape);
    Value flat = vjp_append(g, OP_ATTENTION_GRAD, n->attr, shape1(total), 4, n->in[0], n->in[1], n->in[2], dy);
    for (int i = 0; i < 3; i++) {
        if (need[i]) dx[i] = vjp_part(g, flat, start, n->in[i]->shape);
        start += shape_count(n->in[i]->shape);
    }
}
