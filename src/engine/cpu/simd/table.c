/* The one entry point of an instruction set: the whole table. */
#include "engine/cpu/simd/parts.h"
#include "engine/cpu/simd/vec.h"

#define TEXT_OF(isa) #isa
#define TEXT(isa) TEXT_OF(isa)

void PART(kernels)(SimdKernels *k) {
    *k = (SimdKernels){.name = TEXT(SIMD_ISA), .width = W};
    PART(elementwise)(k);
    PART(norms)(k);
    PART(attention)(k);
    PART(winograd)(k);
}
