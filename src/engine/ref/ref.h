/* The reference backend's kernels: one plain function per op, double precision, no cleverness. They are the oracle that
 * every other backend is tested against, so they follow the equations and nothing else. */
#ifndef DRPO_ENGINE_REF_H
#define DRPO_ENGINE_REF_H

#include "engine/backend.h"

typedef void RefKernel(const Node *n, double *out, double *const *in);

RefKernel ref_add, ref_mul, ref_affine, ref_act, ref_act_grad, ref_geglu, ref_geglu_grad, ref_dropout;
RefKernel ref_linear, ref_linear_dx, ref_linear_dw, ref_matmul;
RefKernel ref_conv2d, ref_conv2d_dx, ref_conv2d_dw;
RefKernel ref_attention, ref_attention_grad;
RefKernel ref_group_norm, ref_group_norm_dx, ref_group_norm_dwb, ref_layer_norm, ref_layer_norm_dx, ref_layer_norm_dwb;
RefKernel ref_rms_norm, ref_rms_norm_dx;
RefKernel ref_concat, ref_slice, ref_pad_axis, ref_embed, ref_embed_grad, ref_sum_to, ref_broadcast_to;
RefKernel ref_upsample2x, ref_upsample2x_grad, ref_pixel_unshuffle, ref_pixel_shuffle, ref_avg_pool, ref_avg_pool_grad,
    ref_pool_std, ref_pool_std_grad;

double ref_activation(Act kind, double x);
double ref_activation_slope(Act kind, double x);

/* A tensor seen as [a][b][c][d] in PyTorch order, whatever its order in memory; missing leading dimensions are 1. */
typedef struct View4 {
    double *data;
    int64_t dim[4], stride[4];
} View4;

View4 view4(const Node *n, double *data);
/* The same with stride 0 wherever `v` has 1 element and `like` has more. */
View4 view4_broadcast(View4 v, View4 like);
static inline double *at4(const View4 *v, int64_t a, int64_t b, int64_t c, int64_t d) {
    return v->data + a * v->stride[0] + b * v->stride[1] + c * v->stride[2] + d * v->stride[3];
}
#define EACH4(v)                                                                                                       \
    for (int64_t a = 0; a < (v).dim[0]; a++)                                                                           \
        for (int64_t b = 0; b < (v).dim[1]; b++)                                                                       \
            for (int64_t c = 0; c < (v).dim[2]; c++)                                                                   \
                for (int64_t d = 0; d < (v).dim[3]; d++)

#endif
