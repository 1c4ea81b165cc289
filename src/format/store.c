/* Storing float32 numbers: see store.h. */
#include "format/store.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

uint16_t bf16_from_f32(float x) {
    uint32_t u = bits_of(x);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

uint16_t f16_from_f32(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    float magnitude = fabsf(x);
    if (isnan(x)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) return sign | (uint16_t)lrintf(magnitude * 0x1p24f); /* subnormal steps of 2^-24 */
    uint32_t u = bits_of(magnitude) - (112u << 23);                                /* exponent bias 127 -> 15 */
    return sign | (uint16_t)((u + 0xfff + (u >> 13 & 1)) >> 13);
}

void dtype_store(DType t, void *data, size_t i, float value) {
    if (t == DT_F16)
        ((uint16_t *)data)[i] = f16_from_f32(value);
    else if (t == DT_BF16)
        ((uint16_t *)data)[i] = bf16_from_f32(value);
    else if (t == DT_F64)
        ((double *)data)[i] = (double)value;
    else
        ((float *)data)[i] = value;
}
