/* Names of this folder's functions, which carry the instruction set they were compiled for: simd_norms_avx2, ... */
#ifndef DRPO_ENGINE_CPU_SIMD_PARTS_H
#define DRPO_ENGINE_CPU_SIMD_PARTS_H

#include "engine/cpu/simd/simd.h"

#define PART_JOIN(name, isa) simd_##name##_##isa
#define PART_NAME(name, isa) PART_JOIN(name, isa)
#define PART(name) PART_NAME(name, SIMD_ISA)

/* Each file fills in its part of the table. */
void PART(elementwise)(SimdKernels *k);
void PART(norms)(SimdKernels *k);
void PART(attention)(SimdKernels *k);
void PART(winograd)(SimdKernels *k);

#endif
