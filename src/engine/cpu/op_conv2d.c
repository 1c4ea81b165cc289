/* Convolutions on oneDNN, activations channels-last.
 *
 *     CONV2D     y = act(conv(x, w) + bias + residual)
 *     CONV2D_DX  dx = transposed convolution of dy with w
 *     CONV2D_DW  dw = correlation of x and dy, in memory [out,kh,kw,in]
 *
 * A frozen weight is packed once into the layout that the primitive picks; a trainable one is reordered on every run.
 * Where factors are rounded to bfloat16 (bf16.c), only the result and the bias are float32. */
#include "engine/cpu/cpu.h"

/* What the three primitives share. */
typedef struct Conv {
    dnnl_data_type_t type; /* of the factors */
    dnnl_memory_desc_t x, w, y, bias;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t forward; /* the gradients' hint */
    dnnl_dims_t stride, dilation, pad_before, pad_after;
} Conv;

static dnnl_memory_desc_t image(dnnl_data_type_t type, Shape s) { return dnnl_layout_of(type, 4, s.dim, dnnl_nhwc); }

static bool is_product(Shape w, const Attr *a) {
    return w.dim[2] == 1 && w.dim[3] == 1 && a->stride == 1 && !a->pad.top && !a->pad.left && !a->pad.bottom &&
           !a->pad.right;
}

static void describe(Conv *c, dnnl_data_type_t type, Shape x, Shape w, Shape y, const Attr *a) {
    *c = (Conv){.type = type,
                .stride = {a->stride, a->stride},
                .pad_before = {a->pad.top, a->pad.left},
                .pad_after = {a->pad.bottom, a->pad.right}};
    c->x = image(type, x);
    c->y = image(type, y);
    c->w = dnnl_layout_of(type, 4, w.dim, dnnl_format_tag_any);
}

static void destroy(Conv *c) {
    dnnl_memory_desc_destroy(c->x);
    dnnl_memory_desc_destroy(c->w);
    dnnl_memory_desc_destroy(c->y);
    dnnl_memory_desc_destroy(c->bias);
    dnnl_primitive_attr_destroy(c->attr);
    dnnl_primitive_desc_destroy(c->forward);
}

static int describe_forward(CpuBackend *b, Conv *c, bool residual, Act act, bool hint, Error *err) {
    TRY(dnnl_op_attributes(&c->attr, 1, NULL, residual, act, err));
    return dnnl_failed(dnnl_convolution_forward_primitive_desc_create(
                           &c->forward, b->engine, hint ? dnnl_forward_training : dnnl_forward_inference,
                           dnnl_convolution_direct, c->x, c->w, c->bias, c->y, c->stride, c->dilation, c->pad_before,
                           c->pad_after, c->attr),
                       "a convolution", err);
}

/* A reorder between the plain weight at `source` and `packed` in the workspace (or back). */
static int add_reorder(DnnlOp *op, const_dnnl_memory_desc_t from, int source, size_t from_at,
                       const_dnnl_memory_desc_t to, int target, size_t to_at, Error *err) {
    dnnl_primitive_attr_t attr;
    TRY(dnnl_op_attributes(&attr, 1, NULL, false, ACT_NONE, err));
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&pd, from, op->b->engine, to, op->b->engine, attr);
    dnnl_primitive_attr_destroy(attr);
    TRY(dnnl_failed(status, "reordering a weight", err));
    TRY(dnnl_op_call(op, pd, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_FROM, from, source, from_at, NULL, err));
    return dnnl_op_bind(op, DNNL_ARG_TO, to, target, to_at, NULL, err);
}

/* Where the weight of the coming call will be: fixed (packed), input 1 itself, or in the workspace. */
typedef struct WeightPlace {
    int source;
    size_t offset;
    void *fixed;
} WeightPlace;

static int place_weight(DnnlOp *op, const Node *n, const_dnnl_memory_desc_t wanted, Kernel *k, WeightPlace *out,
                        Error *err) {
    const Param *p = n->in[1]->param;
    if (!p->trainable) {
        TRY(pack_get(op->b, p, wanted, &op->pack, err));
        k->packed |= 1u << 1;
        *out = (WeightPlace){FROM_FIXED, 0, pack_data(op->pack)};
        return 0;
    }
    dnnl_memory_desc_t plain = dnnl_layout(4, p->shape.dim, dnnl_abcd);
    if (!plain) return fail(err, DRPO_E_MEMORY, "out of memory while a convolution is prepared");
    int code = 0;
    if (dnnl_memory_desc_equal(plain, wanted)) {
        *out = (WeightPlace){1, 0, NULL};
    } else {
        *out = (WeightPlace){FROM_WORKSPACE, dnnl_op_reserve(op, dnnl_memory_desc_get_size(wanted)), NULL};
        code = add_reorder(op, plain, 1, 0, wanted, FROM_WORKSPACE, out->offset, err);
    }
    dnnl_memory_desc_destroy(plain);
    return code;
}

/* The factor that is no weight: input 0 as it is, or rounded into the workspace. */
static int round_factor(DnnlOp *op, const Conv *c, const Node *n, int *source, size_t *offset, Error *err) {
    *source = c->type == dnnl_bf16 ? FROM_WORKSPACE : 0;
    *offset = 0;
    return c->type == dnnl_bf16 ? dnnl_op_round(op, 0, shape_count(n->in[0]->shape), offset, err) : 0;
}

static int replace(dnnl_memory_desc_t *md, Shape s, Error *err) {
    dnnl_memory_desc_destroy(*md);
    *md = image(dnnl_f32, s);
    return *md ? 0 : fail(err, DRPO_E_MEMORY, "out of memory while a convolution is prepared");
}

static int build_forward(CpuBackend *b, const Node *n, Conv *c, Kernel *k, Error *err) {
    bool bias = n->n_in > 2 && n->in[2], residual = n->n_in > 3 && n->in[3];
    int source;
    size_t at;
    if (bias) c->bias = dnnl_layout(1, n->in[2]->shape.dim, dnnl_a);
    TRY(replace(&c->y, n->shape, err));
    TRY(describe_forward(b, c, residual, n->attr.act, false, err));
    DnnlOp *op = dnnl_op_new(b, n, k, err);
    if (!op) return DRPO_E_MEMORY;
    op->residual = residual ? 3 : -1;
    TRY(round_factor(op, c, n, &source, &at, err));
    const_dnnl_memory_desc_t weights = dnnl_primitive_desc_query_md(c->forward, dnnl_query_weights_md, 0);
    WeightPlace place;
    TRY(place_weight(op, n, weights, k, &place, err));
    dnnl_memory_desc_destroy(c->w);
    c->w = NULL;
    TRY(dnnl_failed(dnnl_memory_desc_clone(&c->w, weights), "a packed layout", err));
    dnnl_primitive_desc_t pd = c->forward;
    c->forward = NULL;
    TRY(dnnl_op_call(op, pd, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_SRC, c->x, source, at, NULL, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_WEIGHTS, c->w, place.source, place.offset, place.fixed, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DST, c->y, FROM_OUT, 0, NULL, err));
    if (bias) TRY(dnnl_op_bind(op, DNNL_ARG_BIAS, c->bias, 2, 0, NULL, err));
    k->workspace = op->workspace;
    return 0;
}

static int build_dx(CpuBackend *b, const Node *n, Conv *c, Kernel *k, Error *err) {
    TRY(describe_forward(b, c, false, ACT_NONE, true, err));
    DnnlOp *op = dnnl_op_new(b, n, k, err);
    if (!op) return DRPO_E_MEMORY;
    int source;
    size_t at;
    TRY(round_factor(op, c, n, &source, &at, err));
    TRY(replace(&c->x, n->shape, err));
    dnnl_primitive_desc_t pd = NULL;
    TRY(dnnl_failed(dnnl_convolution_backward_data_primitive_desc_create(
                        &pd, b->engine, dnnl_convolution_direct, c->x, c->w, c->y, c->stride, c->dilation,
                        c->pad_before, c->pad_after, c->forward, c->attr),
                    "a convolution's gradient", err));
    dnnl_memory_desc_destroy(c->w);
    c->w = NULL;
    dnnl_status_t status = dnnl_memory_desc_clone(&c->w, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    WeightPlace place = {0};
    int code = dnnl_failed(status, "a packed layout", err);
    if (code == 0) code = place_weight(op, n, c->w, k, &place, err);
    if (code < 0) {
        dnnl_primitive_desc_destroy(pd);
        return code;
    }
    TRY(dnnl_op_call(op, pd, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DIFF_DST, c->y, source, at, NULL, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_WEIGHTS, c->w, place.source, place.offset, place.fixed, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DIFF_SRC, c->x, FROM_OUT, 0, NULL, err));
    k->workspace = op->workspace;
    return 0;
}

static int build_dw(CpuBackend *b, const Node *n, Conv *c, dnnl_memory_desc_t result, Kernel *k, Error *err) {
    TRY(describe_forward(b, c, false, ACT_NONE, true, err));
    DnnlOp *op = dnnl_op_new(b, n, k, err);
    if (!op) return DRPO_E_MEMORY;
    dnnl_primitive_desc_t pd = NULL;
    TRY(dnnl_failed(dnnl_convolution_backward_weights_primitive_desc_create(
                        &pd, b->engine, dnnl_convolution_direct, c->x, c->w, NULL, c->y, c->stride, c->dilation,
                        c->pad_before, c->pad_after, c->forward, c->attr),
                    "a convolution's gradient", err));
    dnnl_memory_desc_destroy(c->w);
    c->w = NULL;
    dnnl_status_t status =
        dnnl_memory_desc_clone(&c->w, dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0));
    TRY(dnnl_op_call(op, pd, err));
    TRY(dnnl_failed(status, "a packed layout", err));
    bool direct = dnnl_memory_desc_equal(c->w, result);
    size_t at = direct ? 0 : dnnl_op_reserve(op, dnnl_memory_desc_get_size(c->w));
    TRY(dnnl_op_bind(op, DNNL_ARG_SRC, c->x, 0, 0, NULL, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DIFF_DST, c->y, 1, 0, NULL, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DIFF_WEIGHTS, c->w, direct ? FROM_OUT : FROM_WORKSPACE, at, NULL, err));
    if (!direct) TRY(add_reorder(op, c->w, FROM_WORKSPACE, at, result, FROM_OUT, 0, err));
    k->workspace = op->workspace;
    return 0;
}

int cpu_conv2d(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (is_product(n->in[1]->shape, &n->attr)) return cpu_product_of_conv(b, n, k, err);
    if (cpu_winograd_fits(b, n)) return cpu_winograd(b, n, k, err);
    if (cpu_columns_fit(n) && !cpu_rounds(b, n)) return cpu_columns(b, n, k, err);
    Conv c;
    describe(&c, cpu_rounds(b, n) ? dnnl_bf16 : dnnl_f32, n->in[0]->shape, n->in[1]->shape, n->shape, &n->attr);
    int code = build_forward(b, n, &c, k, err);
    destroy(&c);
    return code;
}

int cpu_conv2d_dx(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (is_product(n->in[1]->shape, &n->attr)) return cpu_product_of_conv(b, n, k, err);
    if (cpu_winograd_fits(b, n)) return cpu_winograd(b, n, k, err);
    if (cpu_columns_fit(n) && !cpu_rounds(b, n)) return cpu_columns(b, n, k, err);
    Conv c;
    describe(&c, cpu_rounds(b, n) ? dnnl_bf16 : dnnl_f32, n->shape, n->in[1]->shape, n->in[0]->shape, &n->attr);
    int code = build_dx(b, n, &c, k, err);
    destroy(&c);
    return code;
}

int cpu_conv2d_dw(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (is_product(n->shape, &n->attr)) return cpu_product_of_conv(b, n, k, err);
    Conv c;
    describe(&c, dnnl_f32, n->in[0]->shape, n->shape, n->in[1]->shape, &n->attr);
    dnnl_memory_desc_t result = dnnl_layout(4, n->shape.dim, dnnl_acdb);
    int code = result ? build_dw(b, n, &c, result, k, err) : fail(err, DRPO_E_MEMORY, "out of memory for a gradient");
    dnnl_memory_desc_destroy(result);
    destroy(&c);
    return code;
}
