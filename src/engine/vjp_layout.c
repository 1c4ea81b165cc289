/* Gradients of ops that move values: the inverse move, with zeros or sums where values were dropped or repeated. */
#include "engine/vjp.h"

#include <stdarg.h>

Value vjp_append(Graph *g, Op op, Attr attr, Shape target, int n_in, ...) {
    Value in[MAX_INPUTS] = {NULL};
    va_list args;
    va_start(args, n_in);
    for (int i = 0; i < n_in && i < MAX_INPUTS; i++) in[i] = va_arg(args, Value);
    va_end(args);
    return append(g, op, attr, in, n_in, target);
}

Value vjp_part(Graph *g, Value flat, int64_t start, Shape shape) {
    return vjp_append(g, OP_PART, (Attr){.start = start}, shape, 1, flat);
}

void vjp_to_tokens(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Shape x = n->in[0]->shape;
    if (need[0]) dx[0] = to_image(g, dy, x.dim[2], x.dim[3]);
}

void vjp_to_image(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    (void)n;
    if (need[0]) dx[0] = to_tokens(g, dy);
}

void vjp_reshape(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[0]) dx[0] = vjp_append(g, OP_RESHAPE, (Attr){0}, n->in[0]->shape, 1, dy);
}

void vjp_concat(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    int axis = n->attr.axis;
    int64_t start = 0;
    for (int i = 0; i < 2; i++) {
        int64_t length = n->in[i]->shape.dim[axis];
        if (need[i]) dx[i] = slice(g, dy, axis, start, length);
        start += length;
    }
}

void vjp_slice(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    Attr attr = {.axis = n->attr.axis, .start = n->attr.start};
    if (need[0]) dx[0] = vjp_append(g, OP_PAD_AXIS, attr, n->in[0]->shape, 1, dy);
}

void vjp_embed(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    if (need[1]) dx[1] = vjp_append(g, OP_EMBED_GRAD, (Attr){0}, n->in[1]->shape, 2, n->in[0], dy);
}
