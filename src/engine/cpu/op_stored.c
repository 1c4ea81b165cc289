/* LINEAR and LINEAR_DX with a weight that stays in its stored 16-bit type (panel.c): half the memory of float32, and no
 * copy at all beside the mapped file. */
#include <stdlib.h>

#include "engine/cpu/cpu.h"

typedef struct Stored {
    CpuBackend *b;
    PanelProduct *product;
    int64_t n; /* columns of y */
    size_t y_bytes;
    int bias, residual; /* numbers of the inputs, -1: none */
} Stored;

bool cpu_is_stored(const Node *n) {
    const Node *w = n->in[1];
    return w->op == OP_PARAM && w->param->stored && !w->param->trainable && w->param->dtype != DT_F32;
}

static int run_stored(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Stored *s = k->state;
    cpu_enter(s->b);
    if (s->residual >= 0 && in[s->residual] != out) cpu_copy(s->b, out, in[s->residual], s->y_bytes);
    const float *bias = s->bias >= 0 ? in[s->bias] : NULL;
    for (int64_t first = 0; first < s->n; first += panel_product_width(s->product))
        TRY(panel_product_run(s->product, first, floats(out) + first, in[0], bias, workspace));
    return 0;
}

static void release_stored(Kernel *k) {
    Stored *s = k->state;
    panel_product_free(s->product);
    free(s);
    k->state = NULL;
}

int cpu_linear_stored(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Stored *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    const bool forward = n->op == OP_LINEAR;
    const Param *w = n->in[1]->param;
    k->run = run_stored;
    k->release = release_stored;
    k->packed = 1u << 1;
    s->n = w->shape.dim[!forward];
    s->y_bytes = (size_t)shape_count(n->shape) * sizeof(float);
    s->bias = forward ? if_there(n, 2) : -1;
    s->residual = if_there(n, forward ? 3 : 2);
    const PanelSpec spec = {.w = w,
                            .rows = w->shape.dim[0],
                            .columns = w->shape.dim[1],
                            .m = shape_count(n->shape) / s->n,
                            .transposed = forward,
                            .y_stride = s->n,
                            .alpha = n->attr.alpha,
                            .act = forward ? n->attr.act : ACT_NONE,
                            .bias = s->bias >= 0,
                            .residual = s->residual >= 0};
    TRY(panel_product_new(b, &spec, &s->product, err));
    k->workspace = panel_product_workspace(s->product);
    return 0;
}
