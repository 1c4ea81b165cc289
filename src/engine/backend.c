/* What every backend agrees on: which ops are views, and which inputs a kernel may write its result over. */
#include "engine/backend.h"

bool op_is_view(Op op) { return op == OP_TO_TOKENS || op == OP_TO_IMAGE || op == OP_RESHAPE || op == OP_PART; }

bool op_may_overwrite(const Node *n, int i) {
    switch (n->op) {
    case OP_ADD:
    case OP_MUL: return shape_equal(n->in[i]->shape, n->shape);
    case OP_AFFINE:
    case OP_ACT:
    case OP_ACT_GRAD: return true;
    case OP_LINEAR:
    case OP_CONV2D: return i == 3; /* the residual */
    case OP_LINEAR_DX: return i == 2;
    default: return false;
    }
}

void backend_free(Backend *b) {
    if (b && b->destroy) b->destroy(b);
}

int backend_commit(Backend *b, Error *err) { return b->commit ? b->commit(b, err) : 0; }

size_t backend_pending(const Backend *b) { return b->pending_bytes ? b->pending_bytes(b) : 0; }
