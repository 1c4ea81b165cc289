/* The two products of the drift: pair products in float64 and weighted sums of points in float32.
 *
 * They carry nearly all of its cost, so they exist once per instruction set and the processor chooses. The order of
 * every sum is fixed by the sizes alone: threads only share out whole tiles. */
#include <string.h>

#include "step/drift_internal.h"

/* Without it the register tile would live in memory: compilers unroll too late to keep small arrays in registers. */
#define UNROLLED _Pragma("GCC unroll 8")

#define KERNEL(name) name##_generic
#define TARGET
#define BYTES 16
#define DOTS_COLUMNS 2
#define MIX_ROWS 4
#include "step/drift_kernels_body.h"
#undef KERNEL
#undef TARGET
#undef BYTES

#if defined(__x86_64__)
#define KERNEL(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define BYTES 32
#include "step/drift_kernels_body.h"
#undef KERNEL
#undef TARGET
#undef BYTES
#undef DOTS_COLUMNS
#undef MIX_ROWS

#define KERNEL(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define BYTES 64
#define DOTS_COLUMNS 4
#define MIX_ROWS 8
#include "step/drift_kernels_body.h"
#endif

const DriftKernels *drift_kernels(int level) {
    static const DriftKernels generic = {dots_generic, mix_generic};
#if defined(__x86_64__)
    static const DriftKernels avx2 = {dots_avx2, mix_avx2};
    static const DriftKernels avx512 = {dots_avx512, mix_avx512};
    if (level >= 2 && __builtin_cpu_supports("avx512f")) return &avx512;
    if (level >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
#endif
    (void)level;
    return &generic;
}
