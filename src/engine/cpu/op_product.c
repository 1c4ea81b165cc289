/* Matrix products on oneDNN: LINEAR and its gradients, MATMUL, and convolutions that are products.
 *
 *     LINEAR     y [rows,out] = act(alpha x w^T + bias + residual)     w [out,in]
 *     LINEAR_DX  dx [rows,in] = alpha dy w + residual
 *     LINEAR_DW  dw [out,in]  = alpha dy^T x
 *     MATMUL     y = alpha A B, A and B as they are or transposed, one product per leading index
 *
 * A frozen weight is read as the file has it, [out,in], by the forward and the backward product alike: one copy, and
 * with many rows as fast as a packed one. With few rows packing pays. The same holds where factors are rounded to
 * bfloat16 (bf16.c). */
#include "engine/cpu/cpu.h"

enum { ROWS_FOR_PLAIN = 64 };

typedef struct Product {
    int64_t batch; /* 0: plain matrices */
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha;
    Act act;
    int a, b, bias, residual; /* numbers of the inputs, -1: absent */
    dnnl_data_type_t type;    /* of the factors */
} Product;

static int64_t rows_of(Shape s) { return shape_count(s) / s.dim[s.rank - 1]; }

/* [batch, rows, columns]; the stored matrix is the transpose where `transposed` */
static dnnl_memory_desc_t matrix(dnnl_data_type_t type, int64_t batch, int64_t rows, int64_t columns, bool transposed) {
    if (batch) return dnnl_layout_of(type, 3, (int64_t[]){batch, rows, columns}, transposed ? dnnl_acb : dnnl_abc);
    return dnnl_layout_of(type, 2, (int64_t[]){rows, columns}, transposed ? dnnl_ba : dnnl_ab);
}

/* Everything that has to be destroyed on every path. */
typedef struct Layouts {
    dnnl_memory_desc_t a, b, y, bias;
    dnnl_primitive_attr_t attr;
} Layouts;

static void destroy_layouts(Layouts *l) {
    dnnl_memory_desc_destroy(l->a);
    dnnl_memory_desc_destroy(l->b);
    dnnl_memory_desc_destroy(l->y);
    dnnl_memory_desc_destroy(l->bias);
    dnnl_primitive_attr_destroy(l->attr);
}

static int bind_weight(DnnlOp *op, const Node *n, const Product *p, const_dnnl_memory_desc_t md, bool pack, Kernel *k,
                       Error *err) {
    const Param *param = n->in[p->b]->param;
    bool frozen = n->in[p->b]->op == OP_PARAM && !param->trainable;
    if (!frozen) return dnnl_op_bind(op, DNNL_ARG_WEIGHTS, md, p->b, 0, NULL, err);
    if (p->type == dnnl_bf16 && !pack)
        TRY(pack_get_bf16(op->b, param, &op->pack, err));
    else
        TRY(pack_get(op->b, param, pack ? md : NULL, &op->pack, err));
    k->packed |= 1u << p->b;
    return dnnl_op_bind(op, DNNL_ARG_WEIGHTS, md, FROM_FIXED, 0, pack_data(op->pack), err);
}

static int build(CpuBackend *b, const Node *n, const Product *p, Layouts *l, Kernel *k, Error *err) {
    bool frozen = n->in[p->b]->op == OP_PARAM && !n->in[p->b]->param->trainable;
    bool pack = frozen && p->trans_b && p->m < ROWS_FOR_PLAIN;
    l->a = matrix(p->type, p->batch, p->m, p->k, p->trans_a);
    l->b = pack ? dnnl_layout_of(p->type, 2, (int64_t[]){p->k, p->n}, dnnl_format_tag_any)
                : matrix(p->type, p->batch, p->k, p->n, p->trans_b);
    l->y = matrix(dnnl_f32, p->batch, p->m, p->n, false);
    l->bias = p->bias >= 0 ? dnnl_layout(2, (int64_t[]){1, p->n}, dnnl_ab) : NULL;
    bool bias_after = l->bias && p->alpha != 1;
    TRY(dnnl_op_attributes(&l->attr, p->alpha, bias_after ? l->bias : NULL, p->residual >= 0, p->act, err));
    DnnlOp *op = dnnl_op_new(b, n, k, err);
    if (!op) return DRPO_E_MEMORY;
    op->residual = p->residual;
    size_t rounded = 0;
    if (p->type == dnnl_bf16) TRY(dnnl_op_round(op, p->a, p->m * p->k, &rounded, err));
    dnnl_primitive_desc_t pd = NULL;
    TRY(dnnl_failed(
        dnnl_matmul_primitive_desc_create(&pd, b->engine, l->a, l->b, bias_after ? NULL : l->bias, l->y, l->attr),
        "a matrix product", err));
    if (pack) {
        dnnl_memory_desc_destroy(l->b);
        l->b = NULL;
        TRY(dnnl_failed(dnnl_memory_desc_clone(&l->b, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0)),
                        "a packed layout", err));
    }
    TRY(dnnl_op_call(op, pd, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_SRC, l->a, p->type == dnnl_bf16 ? FROM_WORKSPACE : p->a, rounded, NULL, err));
    TRY(bind_weight(op, n, p, l->b, pack, k, err));
    TRY(dnnl_op_bind(op, DNNL_ARG_DST, l->y, FROM_OUT, 0, NULL, err));
    int bias_arg = bias_after ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1 : DNNL_ARG_BIAS;
    if (l->bias) TRY(dnnl_op_bind(op, bias_arg, l->bias, p->bias, 0, NULL, err));
    k->workspace = op->workspace;
    return 0;
}

static int prepare(CpuBackend *b, const Node *n, Product p, Kernel *k, Error *err) {
    Layouts l = {0};
    p.type = cpu_rounds(b, n) ? dnnl_bf16 : dnnl_f32;
    int code = build(b, n, &p, &l, k, err);
    destroy_layouts(&l);
    return code;
}

int cpu_linear(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (cpu_is_stored(n) && !cpu_rounds(b, n)) return cpu_linear_stored(b, n, k, err);
    Shape w = n->in[1]->shape;
    return prepare(b, n,
                   (Product){.m = rows_of(n->shape),
                             .n = w.dim[0],
                             .k = w.dim[1],
                             .trans_b = true,
                             .alpha = n->attr.alpha,
                             .act = n->attr.act,
                             .a = 0,
                             .b = 1,
                             .bias = if_there(n, 2),
                             .residual = if_there(n, 3)},
                   k, err);
}

int cpu_linear_dx(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (cpu_is_stored(n) && !cpu_rounds(b, n)) return cpu_linear_stored(b, n, k, err);
    Shape w = n->in[1]->shape;
    return prepare(b, n,
                   (Product){.m = rows_of(n->shape),
                             .n = w.dim[1],
                             .k = w.dim[0],
                             .alpha = n->attr.alpha,
                             .a = 0,
                             .b = 1,
                             .bias = -1,
                             .residual = if_there(n, 2)},
                   k, err);
}

int cpu_linear_dw(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    return prepare(b, n,
                   (Product){.m = n->shape.dim[0],
                             .n = n->shape.dim[1],
                             .k = rows_of(n->in[0]->shape),
                             .trans_a = true,
                             .alpha = n->attr.alpha,
                             .a = 1,
                             .b = 0,
                             .bias = -1,
                             .residual = -1},
                   k, err);
}

int cpu_matmul(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Shape a = n->in[0]->shape, y = n->shape;
    int r = y.rank - 2;
    return prepare(b, n,
                   (Product){.batch = r ? y.dim[0] : 0,
                             .m = y.dim[r],
                             .n = y.dim[r + 1],
                             .k = a.dim[r + !n->attr.trans_a],
                             .trans_a = n->attr.trans_a,
                             .trans_b = n->attr.trans_b,
                             .alpha = n->attr.alpha,
                             .a = 0,
                             .b = 1,
                             .bias = -1,
                             .residual = -1},
                   k, err);
}

int cpu_product_of_conv(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    if (n->op == OP_CONV2D_DW) { /* x, dy -> dw */
        Shape w = n->shape, x = n->in[0]->shape;
        return prepare(b, n,
                       (Product){.m = w.dim[0],
                                 .n = w.dim[1],
                                 .k = shape_count(x) / x.dim[1],
                                 .trans_a = true,
                                 .alpha = 1,
                                 .a = 1,
                                 .b = 0,
                                 .bias = -1,
                                 .residual = -1},
                       k, err);
    }
    Shape w = n->in[1]->shape;
    bool forward = n->op == OP_CONV2D;
    int64_t columns = n->shape.dim[1];
    return prepare(b, n,
                   (Product){.m = shape_count(n->shape) / columns,
                             .n = columns,
                             .k = forward ? w.dim[1] : w.dim[0],
                             .trans_b = forward,
                             .alpha = 1,
                             .act = n->attr.act,
                             .a = 0,
                             .b = 1,
                             .bias = forward ? if_there(n, 2) : -1,
                             .residual = forward ? if_there(n, 3) : -1},
                   k, err);
}
