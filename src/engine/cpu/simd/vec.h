/* Vectors of float in GCC's portable vector notation, and the functions of one variable that kernels need.
 *
 * The files of this folder are compiled once per instruction set; W, the number of floats in a vector, follows the set.
 * exp is accurate to about 1e-7 relative, the normal distribution function (for GELU) to 4e-8 absolute. No libm calls.
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

/* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits. */
#define ROUNDER 12582912.0f

INLINE vf times_power_of_two(vf p, vf rounded) { return (vf)((vi)p + ((vi)rounded << 23)); }

/* e^x, x clamped to [-87.3, 87] so that 1 / (1 + e^x) is no denormal either: e^x = 2^n e^r with |r| <= log(2)/2. */
INLINE vf exp_of(vf x) {
    x = min_of(max_of(x, splat(-87.3f)), splat(87.0f));
    vf rounded = x * 1.44269504f + ROUNDER, n = rounded - ROUNDER;
    vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vf p = splat(1.38146132e-3f); /* the best polynomial in relative error: 3e-9 */
    p = p * r + 8.36870994e-3f;
    p = p * r + 4.16683874e-2f;
    p = p * r + 1.66665207e-1f;
    p = p * r + 0.49999994f;
    p = p * r * r + r + 1.0f;
    return times_power_of_two(p, rounded);
}

/* 2^x for x <= 0; 0 below 2^-64, which nobody misses beside 1: products with small gradients then stay clear of
 * denormals, on which a processor takes a hundred times longer. */
INLINE vf exp2_of(vf x) {
    vi seen = x > -64.0f;
    x = max_of(x, splat(-64.0f));
    vf rounded = x + ROUNDER, f = x - (rounded - ROUNDER);
    vf p = splat(1.5353362e-4f); /* the best polynomial in relative error: 2e-9 on [-1/2, 1/2] */
    p = p * f + 1.33988747e-3f;
    p = p * f + 9.61843736e-3f;
    p = p * f + 5.55033247e-2f;
    p = p * f + 2.40226479e-1f;
    p = p * f + 6.93147203e-1f;
    return (vf)((vi)times_power_of_two(p * f + 1.0f, rounded) & seen);
}

INLINE vf sigmoid_of(vf x) { return reciprocal_of(1.0f + exp_of(-x)); }

/* Phi(x), the normal distribution function: Phi(-|x|) = 2^-Q(|x|) with a fitted polynomial Q on [0, 5.5], a steep line
 * beyond. */
INLINE vf normal_cdf_of(vf x) {
    vf beyond = max_of(magnitude(x) - 5.5f, splat(0)), a = min_of(magnitude(x), splat(5.5f));
    vf q = splat(-2.730308210630028e-07f);
    q = q * a + 6.065220532036619e-06f;
    q = q * a + -5.4389951401390135e-05f;
    q = q * a + 0.00022100679052527994f;
    q = q * a + 9.489912918070331e-05f;
    q = q * a + -0.007039218209683895f;
    q = q * a + 0.05249227210879326f;
    q = q * a + 0.4592067301273346f;
    q = q * a + 1.1511056423187256f;
    q = q * a + 1.0f;
    vf lower = exp2_of(-q - beyond * 8.0f);
    return choose(x > 0, 1.0f - lower, lower);
}

INLINE vf normal_density_of(vf x) { return exp_of(x * x * -0.5f) * 0.398942280f; }

#endif
