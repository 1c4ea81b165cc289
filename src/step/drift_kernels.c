/* The inner loops of the drift: pair products, distances, exponentials of float64 and weighted sums of points.
 *
 * They carry nearly all of its cost, so they exist once per instruction set and the processor chooses. The order of
 * every sum is fixed by the sizes alone: threads only share out whole tiles. */
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "step/drift_internal.h"

/* Without it the register tile would live in memory: compilers unroll too late to keep small arrays in registers. */
#define UNROLLED _Pragma("GCC unroll 8")

/* The larger of each pair of lanes; compilers do not find the instruction for a selection between vectors. */
#define KERNEL(name) name##_generic
#define TARGET
#define BYTES 16
#define DOTS_VECTORS 2
#define MIX_ROWS 4
#if defined(__x86_64__)
#define LARGER(x, y) (KERNEL(doubles)) _mm_max_pd((__m128d)(x), (__m128d)(y))
#define SMALLER(x, y) (KERNEL(doubles)) _mm_min_pd((__m128d)(x), (__m128d)(y))
#else
#define CHOOSE(mask, x, y)                                                                                             \
    (KERNEL(doubles))(((KERNEL(longs))(mask) & (KERNEL(longs))(x)) | (~(KERNEL(longs))(mask) & (KERNEL(longs))(y)))
#define LARGER(x, y) CHOOSE((x) > (y), x, y)
#define SMALLER(x, y) CHOOSE((x) < (y), x, y)
#endif
#include "step/drift_kernels_body.h"
#undef KERNEL
#undef TARGET
#undef BYTES
#undef LARGER
#undef SMALLER

/* AddressSanitizer's stack for use after return aligns less than these vectors need; the portable set stays checked. */
#if defined(__x86_64__)
#define KERNEL(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma"), no_sanitize("address")))
#define BYTES 32
#define LARGER(x, y) (KERNEL(doubles)) _mm256_max_pd((__m256d)(x), (__m256d)(y))
#define SMALLER(x, y) (KERNEL(doubles)) _mm256_min_pd((__m256d)(x), (__m256d)(y))
#include "step/drift_kernels_body.h"
#undef KERNEL
#undef TARGET
#undef BYTES
#undef DOTS_VECTORS
#undef MIX_ROWS
#undef LARGER
#undef SMALLER

#define KERNEL(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma"), no_sanitize("address")))
#define BYTES 64
#define DOTS_VECTORS 4
#define MIX_ROWS 8
#define LARGER(x, y) (KERNEL(doubles)) _mm512_max_pd((__m512d)(x), (__m512d)(y))
#define SMALLER(x, y) (KERNEL(doubles)) _mm512_min_pd((__m512d)(x), (__m512d)(y))
#include "step/drift_kernels_body.h"
#endif

#define SET(isa)                                                                                                       \
    {                                                                                                                  \
        dots_##isa, mix_##isa, distances_##isa, weigh_##isa, columns_##isa, rows_##isa, merge_##isa, strongest_##isa,  \
            affinities_##isa, coefficients_##isa, drag_##isa, soften_##isa                                             \
    }

const DriftKernels *drift_kernels(int level) {
    static const DriftKernels generic = SET(generic);
#if defined(__x86_64__)
    static const DriftKernels avx2 = SET(avx2);
    static const DriftKernels avx512 = SET(avx512);
    if (level >= 2 && __builtin_cpu_supports("avx512f")) return &avx512;
    if (level >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
#endif
    (void)level;
    return &generic;
}
