/* Kernels made of oneDNN primitives: everything is created while a plan is made; a run sets addresses and executes. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

int dnnl_failed(dnnl_status_t status, const char *what, Error *err) {
    if (status == dnnl_success) return 0;
    if (status == dnnl_out_of_memory) return fail(err, DRPO_E_MEMORY, "out of memory while %s", what);
    return fail(err, DRPO_E_INTERNAL, "oneDNN refused %s (status %d)", what, (int)status);
}

dnnl_memory_desc_t dnnl_layout_of(dnnl_data_type_t type, int rank, const int64_t *dims, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md = NULL;
    dnnl_dims_t size = {0};
    for (int i = 0; i < rank; i++) size[i] = dims[i];
    return dnnl_memory_desc_create_with_tag(&md, rank, size, type, tag) ? NULL : md;
}

dnnl_memory_desc_t dnnl_layout(int rank, const int64_t *dims, dnnl_format_tag_t tag) {
    return dnnl_layout_of(dnnl_f32, rank, dims, tag);
}

static int run_calls(const Kernel *k, void *out, void *const *in, void *workspace) {
    const DnnlOp *op = k->state;
    cpu_enter(op->b);
    if (op->residual >= 0 && in[op->residual] != out) cpu_copy(op->b, out, in[op->residual], op->out_bytes);
    for (int c = 0; c < op->n_call; c++) {
        const DnnlCall *call = &op->call[c];
        for (int i = 0; i < call->n_arg; i++) {
            int source = call->source[i];
            if (source == FROM_FIXED) continue;
            char *base = source == FROM_OUT ? out : source == FROM_WORKSPACE ? workspace : in[source];
            if (dnnl_memory_set_data_handle(call->arg[i].memory, base + call->offset[i])) return DRPO_E_INTERNAL;
        }
        if (dnnl_primitive_execute(call->primitive, op->b->stream, call->n_arg, call->arg)) return DRPO_E_INTERNAL;
    }
    return dnnl_stream_wait(op->b->stream) ? DRPO_E_INTERNAL : 0;
}

static void release_calls(Kernel *k) {
    DnnlOp *op = k->state;
    for (int c = 0; c < op->n_call; c++) {
        for (int i = 0; i < op->call[c].n_arg; i++) dnnl_memory_destroy(op->call[c].arg[i].memory);
        dnnl_primitive_destroy(op->call[c].primitive);
    }
    pack_release(op->b, op->pack);
    free(op);
    k->state = NULL;
}

DnnlOp *dnnl_op_new(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    DnnlOp *op = cpu_state(b, k, sizeof *op, err);
    if (!op) return NULL;
    op->residual = -1;
    op->out_bytes = (size_t)shape_count(n->shape) * sizeof(float);
    k->run = run_calls;
    k->release = release_calls;
    cpu_enter(b);
    return op;
}

size_t dnnl_op_reserve(DnnlOp *op, size_t bytes) {
    size_t at = op->workspace;
    op->workspace += aligned(bytes);
    return at;
}

int dnnl_op_call(DnnlOp *op, dnnl_primitive_desc_t pd, Error *err) {
    DnnlCall *call = &op->call[op->n_call++];
    int code = dnnl_failed(dnnl_primitive_create(&call->primitive, pd), "creating a primitive", err);
    const_dnnl_memory_desc_t scratch = code ? NULL : dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (code == 0 && bytes)
        code = dnnl_op_bind(op, DNNL_ARG_SCRATCHPAD, scratch, FROM_WORKSPACE, dnnl_op_reserve(op, bytes), NULL, err);
    dnnl_primitive_desc_destroy(pd);
    return code;
}

int dnnl_op_bind(DnnlOp *op, int arg, const_dnnl_memory_desc_t md, int source, size_t offset, void *fixed, Error *err) {
    DnnlCall *call = &op->call[op->n_call - 1];
    int i = call->n_arg;
    call->source[i] = source;
    call->offset[i] = offset;
    call->arg[i].arg = arg;
    TRY(dnnl_failed(dnnl_memory_create(&call->arg[i].memory, md, op->b->engine, fixed), "describing memory", err));
    call->n_arg++;
    return 0;
}

static dnnl_status_t append_act(dnnl_post_ops_t ops, Act act) {
    static const struct {
        dnnl_alg_kind_t kind;
        float alpha;
    } known[ACT_COUNT] = {
        [ACT_SILU] = {dnnl_eltwise_swish, 1},
        [ACT_GELU] = {dnnl_eltwise_gelu_erf, 0},
        [ACT_QUICK_GELU] = {dnnl_eltwise_swish, 1.702f},
        [ACT_RELU] = {dnnl_eltwise_relu, 0},
        [ACT_SQUARE] = {dnnl_eltwise_square, 0},
        [ACT_GELU_TANH] = {dnnl_eltwise_gelu_tanh, 0},
    };
    return act == ACT_NONE ? dnnl_success : dnnl_post_ops_append_eltwise(ops, known[act].kind, known[act].alpha, 0);
}

int dnnl_op_attributes(dnnl_primitive_attr_t *out, float alpha, const_dnnl_memory_desc_t bias_after, bool residual,
                       Act act, Error *err) {
    dnnl_post_ops_t ops = NULL;
    *out = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(out);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (!s) s = dnnl_post_ops_create(&ops);
    if (!s && alpha != 1) s = dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0);
    if (!s && bias_after) s = dnnl_post_ops_append_binary(ops, dnnl_binary_add, bias_after);
    if (!s && residual) s = dnnl_post_ops_append_sum(ops, 1, 0, dnnl_f32);
    if (!s) s = append_act(ops, act);
    if (!s) s = dnnl_primitive_attr_set_post_ops(*out, ops);
    dnnl_post_ops_destroy(ops);
    return dnnl_failed(s, "setting a primitive's attributes", err);
}
