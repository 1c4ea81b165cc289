/* Vectors of float in GCC's portable vector notation, and the functions of one variable that kernels need.
 *
 * The files of this folder are compiled once per instruction set; W, the number of floats in a vector, follows the set.
 * 2^x is accurate to about 1e-7 relative, the normal distribution function (for GELU) to 4e-8 absolute. No libm calls.
 */
#ifndef DRPO_ENGINE_CPU_SIMD_VEC_H
#define DRPO_ENGINE_CPU_SIMD_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { W = 16 };
#elif defined(__AVX2__)
enum { W = 8 };
#else
enum { W = 4 };
#endif

typedef float vf __attribute__((vector_size(W * sizeof(float)), aligned(W * sizeof(float))));
typedef int32_t vi __attribute__((vector_size(W * sizeof(float)), aligned(W * sizeof(float))));
typedef float vf_unaligned __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vf splat(float s) { return s - (vf){0}; }
INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }

/* The first n < W elements; the others read as 0 and are left as they are. */
#if defined(__AVX512F__)
INLINE vf load_some(const float *p, size_t n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void store_some(float *p, vf v, size_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }
#else
INLINE vf load_some(const float *p, size_t n) {
    vf v = {0};
    for (size_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
INLINE void store_some(float *p, vf v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = v[i];
}
#endif

/* The first n <= W. */
INLINE vf load_part(const float *p, size_t n) { return n == W ? load(p) : load_some(p, n); }
INLINE void store_part(float *p, vf v, size_t n) {
    if (n == W)
        store(p, v);
    else
        store_some(p, v, n);
}

/* Rows become columns: at each distance d, blocks of d x d lanes of two rows that lie d apart change places. */
#define UPPER_LANE(l, d) ((l) & (d) ? W + (l) - (d) : (l))
#define LOWER_LANE(l, d) ((l) & (d) ? W + (l) : (l) + (d))
#define FOUR_LANES(f, l, d) f(l, d), f(l + 1, d), f(l + 2, d), f(l + 3, d)
#if defined(__AVX512F__)
#define ALL_LANES(f, d) FOUR_LANES(f, 0, d), FOUR_LANES(f, 4, d), FOUR_LANES(f, 8, d), FOUR_LANES(f, 12, d)
#elif defined(__AVX2__)
#define ALL_LANES(f, d) FOUR_LANES(f, 0, d), FOUR_LANES(f, 4, d)
#else
#define ALL_LANES(f, d) FOUR_LANES(f, 0, d)
#endif
#define SWAP_BLOCKS(x, d)                                                                                              \
    UNROLL                                                                                                             \
    for (int i = 0; i < W; i++) {                                                                                      \
        if (i & (d)) continue;                                                                                         \
        vf upper = x[i], lower = x[i + (d)];                                                                           \
        x[i] = __builtin_shufflevector(upper, lower, ALL_LANES(UPPER_LANE, d));                                        \
        x[i + (d)] = __builtin_shufflevector(upper, lower, ALL_LANES(LOWER_LANE, d));                                  \
    }
INLINE void transpose(vf x[W]) {
#if defined(__AVX512F__)
    SWAP_BLOCKS(x, 8)
#endif
#if defined(__AVX2__)
    SWAP_BLOCKS(x, 4)
#endif
    SWAP_BLOCKS(x, 2)
    SWAP_BLOCKS(x, 1)
}

/* Halves are added until one lane is left: a fixed order, so that a sum is the same whoever computes it. */
INLINE float sum_lanes(vf v) {
#if defined(__AVX512F__)
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1);
#elif defined(__AVX2__)
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 2, 3, 0, 1);
#else
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
#endif
    return v[0] + v[1];
}

/* mask: all bits of a lane set or none, as comparisons give */
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* What a processor does in one instruction, compilers make three of. */
#if defined(__AVX512F__)
INLINE vf max_of(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf min_of(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
INLINE vf max_of(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf min_of(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
INLINE vf max_of(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf min_of(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf max_of(vf a, vf b) { return choose(a > b, a, b); }
INLINE vf min_of(vf a, vf b) { return choose(a < b, a, b); }
#endif

/* 1 / x for positive, normal x. Division of 16 floats is slow: an estimate of 14 bits and a Newton step, which doubles
 * the bits, are not. */
INLINE vf reciprocal_of(vf x) {
#if defined(__AVX512F__)
    vf r = (vf)_mm512_rcp14_ps((__m512)x);
    return r + r * (1.0f - x * r);
#else
    return 1.0f / x;
#endif
}
INLINE vf magnitude(vf x) { return (vf)((vi)x & INT32_MAX); }
INLINE vf with_sign_of(vf x, vf sign) { return (vf)((vi)x | ((vi)sign & INT32_MIN)); } /* x >= 0 */

/* 2^x for |x| <= 126: 2^n times a polynomial in f = x - n, |f| <= 1/2, the best one in relative error (2e-9). Adding
 * 1.5 * 2^23 rounds x to the integer n, which then stands in the low bits. */
INLINE vf power_of_two(vf x) {
    vf rounded = x + 12582912.0f, f = x - (rounded - 12582912.0f);
    vf p = splat(1.5353362e-4f);
    p = p * f + 1.33988747e-3f;
    p = p * f + 9.61843736e-3f;
    p = p * f + 5.55033247e-2f;
    p = p * f + 2.40226479e-1f;
    p = p * f + 6.93147203e-1f;
    return (vf)((vi)(p * f + 1.0f) + ((vi)rounded << 23));
}

/* e^x, x held within +-87.3. What rounding x / log(2) costs, |x| 6e-8 relative, matters to none of its users: where |x|
 * is large, e^x is added to 1 or multiplies what is tiny. */
INLINE vf exp_of(vf x) { return power_of_two(min_of(max_of(x * 1.44269504f, splat(-126.0f)), splat(126.0f))); }

/* 2^x for x <= 0; 0 below 2^-64, which nobody misses beside 1: products with small gradients then stay clear of
 * denormals, on which a processor takes a hundred times longer. */
INLINE vf exp2_of(vf x) {
    vi seen = x > -64.0f;
    return (vf)((vi)power_of_two(max_of(x, splat(-64.0f))) & seen);
}

INLINE vf sigmoid_of(vf x) { return reciprocal_of(1.0f + exp_of(-x)); }

/* Phi(x), the normal distribution function: Phi(-a) = 2^-Q(a) with a fitted polynomial Q on [0, 6]. Beyond, Phi stays
 * at some 1e-9 or rounds to 1. */
INLINE vf normal_cdf_of(vf x) {
    vf a = min_of(magnitude(x), splat(6));
    vf q = splat(-2.33507656e-6f);
    q = q * a + 3.37392107e-5f;
    q = q * a - 1.6129983e-4f;
    q = q * a - 1.91690614e-4f;
    q = q * a + 7.12685037e-3f;
    q = q * a - 5.25336045e-2f;
    q = q * a - 4.59198284e-1f;
    q = q * a - 1.15110604f;
    vf upper_half = 0.5f - power_of_two(q * a - 1.0f);
    return 0.5f + with_sign_of(upper_half, x);
}

INLINE vf normal_density_of(vf x) { return exp_of(x * x * -0.5f) * 0.398942280f; }

#endif
