/* Products in bfloat16: y = round(x) round(W)^T, sums in float32, forward and with respect to x.
 *
 * Rounded are the frozen weights of linear layers and convolutions, once, and what they multiply, on its way into each
 * product. Results, and with them norms, softmax, residual streams, LoRA pairs and every gradient of a weight, stay
 * float32. So do layers with few channels on a side, where latents and pictures enter and leave, and those whose weight
 * is called precise (model/build.c, shortcuts): they take no time and their rounding would be seen best. */
#include <string.h>

#include "engine/cpu/cpu.h"

enum { LEAST_CHANNELS = 16 };

Bf16Unit backend_cpu_bf16(void) {
#if defined(__x86_64__)
    const unsigned isa = dnnl_get_effective_cpu_isa(); /* a set of bits: each contains those before it */
    if ((isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx) return BF16_TILES;
    if ((isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16) return BF16_VECTORS;
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core) return BF16_EMULATED;
#endif
    return BF16_NONE;
}

static bool is_layer(Op op) { return op == OP_LINEAR || op == OP_LINEAR_DX || op == OP_CONV2D || op == OP_CONV2D_DX; }

bool cpu_rounds(const CpuBackend *b, const Node *n) {
    if (!b->options.bf16 || !is_layer(n->op) || n->in[1]->op != OP_PARAM) return false;
    const Param *w = n->in[1]->param;
    return !w->trainable && !w->precise && w->shape.dim[0] >= LEAST_CHANNELS && w->shape.dim[1] >= LEAST_CHANNELS;
}

int dnnl_op_round(DnnlOp *op, int i, int64_t count, size_t *offset, Error *err) {
    dnnl_memory_desc_t from = dnnl_layout_of(dnnl_f32, 1, &count, dnnl_a),
                       to = dnnl_layout_of(dnnl_bf16, 1, &count, dnnl_a);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    int code = from && to ? dnnl_op_attributes(&attr, 1, NULL, false, ACT_NONE, err)
                          : fail(err, DRPO_E_MEMORY, "out of memory while a product is prepared");
    if (code == 0)
        code = dnnl_failed(dnnl_reorder_primitive_desc_create(&pd, from, op->b->engine, to, op->b->engine, attr),
                           "rounding to bfloat16", err);
    if (code == 0) code = dnnl_op_call(op, pd, err);
    *offset = dnnl_op_reserve(op, (size_t)count * sizeof(uint16_t));
    if (code == 0) code = dnnl_op_bind(op, DNNL_ARG_FROM, from, i, 0, NULL, err);
    if (code == 0) code = dnnl_op_bind(op, DNNL_ARG_TO, to, FROM_WORKSPACE, *offset, NULL, err);
    dnnl_primitive_attr_destroy(attr);
    dnnl_memory_desc_destroy(from);
    dnnl_memory_desc_destroy(to);
    return code;
}

/* To the nearest, ties to even; a NaN keeps its sign and stays one. */
void bf16_from_floats(const float *from, size_t n, uint16_t *to) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : rounded);
    }
}
