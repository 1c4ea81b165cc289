/* Elementwise kernels: activations and their derivatives, GEGLU, sums, products. */
#include "engine/cpu/simd/simd.h"
#include "engine/cpu/simd/vec.h"

/* ---- activations of one vector, and their derivatives ---- */
INLINE vf relu_of(vf x) { return max_of(x, splat(0)); }
INLINE vf square_of(vf x) { return x * x; }
INLINE vf silu_of(vf x) { return x * sigmoid_of(x); }
INLINE vf gelu_of(vf x) { return x * normal_cdf_of(x); }
INLINE vf quick_gelu_of(vf x) { return x * sigmoid_of(x * 1.702f); }
/* 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
INLINE vf gelu_tanh_of(vf x) { return x * sigmoid_of(x * (1.59576912f + 0.0713548163f * x * x)); }
INLINE vf none_of(vf x) { return x; }

INLINE vf relu_slope(vf x) { return choose(x > 0, splat(1), splat(0)); }
INLINE vf square_slope(vf x) { return x + x; }
/* s = sigmoid(t); 1 - s is e s with e = exp(-t), which keeps its digits where s is close to 1. */
INLINE vf silu_slope(vf x) {
    vf e = exp_of(-x), s = reciprocal_of(1.0f + e);
    return s * (1.0f + x * (e * s));
}
INLINE vf gelu_slope(vf x) { return normal_cdf_of(x) + x * normal_density_of(x); }
INLINE vf quick_gelu_slope(vf x) {
    vf e = exp_of(x * -1.702f), s = reciprocal_of(1.0f + e);
    return s * (1.0f + 1.702f * x * (e * s));
}
INLINE vf gelu_tanh_slope(vf x) {
    vf e = exp_of(-x * (1.59576912f + 0.0713548163f * x * x)), s = reciprocal_of(1.0f + e);
    return s * (1.0f + x * (e * s) * (1.59576912f + 0.2140644489f * x * x));
}
INLINE vf none_slope(vf x) {
    (void)x;
    return splat(1);
}

#define FOR_EACH_ACT(DO)                                                                                               \
    DO(ACT_NONE, none)                                                                                                 \
    DO(ACT_SILU, silu)                                                                                                 \
    DO(ACT_GELU, gelu)                                                                                                 \
    DO(ACT_QUICK_GELU, quick_gelu)                                                                                     \
    DO(ACT_RELU, relu)                                                                                                 \
    DO(ACT_SQUARE, square)                                                                                             \
    DO(ACT_GELU_TANH, gelu_tanh)
