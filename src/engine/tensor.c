/* Shapes and element types: counting, printing, and reading any float type as float32.
 *
 * float32 = (-1)^sign * 2^(exponent-bias) * 1.mantissa; half has bias 15, bfloat16 is the upper half of a float32.
 * Weights of every precision enter the engine through dtype_to_f32. */
#include "engine/tensor.h"

#include <stdio.h>
#include <string.h>

size_t dtype_bytes(DType t) {
    static const size_t bytes[DT_COUNT] = {4, 2, 2, 8, 4, 8, 1, 1};
    return t < DT_COUNT ? bytes[t] : 0;
}

const char *dtype_name(DType t) {
    static const char *const name[DT_COUNT] = {"F32", "F16", "BF16", "F64", "I32", "I64", "U8", "BOOL"};
    return t < DT_COUNT ? name[t] : "?";
}

Shape shape1(int64_t a) { return (Shape){1, {a}}; }
Shape shape2(int64_t a, int64_t b) { return (Shape){2, {a, b}}; }
Shape shape3(int64_t a, int64_t b, int64_t c) { return (Shape){3, {a, b, c}}; }
Shape shape4(int64_t a, int64_t b, int64_t c, int64_t d) { return (Shape){4, {a, b, c, d}}; }

int64_t shape_count(Shape s) {
    int64_t count = 1;
    for (int i = 0; i < s.rank; i++) count *= s.dim[i];
    return count;
}

bool shape_equal(Shape a, Shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dim[i] != b.dim[i]) return false;
    return true;
}

const char *shape_text(Shape s, char text[96]) {
    int used = snprintf(text, 96, "[");
    for (int i = 0; i < s.rank && used < 96; i++)
        used += snprintf(text + used, (size_t)(96 - used), "%s%lld", i ? ", " : "", (long long)s.dim[i]);
    if (used < 96) snprintf(text + used, (size_t)(96 - used), "]");
    return text;
}

static float f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float f32_from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u, mantissa = half & 1023u;
    if (exponent == 31) return f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float tiny = (float)mantissa * 0x1p-24f; /* subnormal halves are normal floats */
    return sign ? -tiny : tiny;
}

void dtype_to_f32(DType t, const void *data, size_t first, size_t n, float *out) {
    const unsigned char *bytes = (const unsigned char *)data + first * dtype_bytes(t);
    if (t == DT_F32) {
        memcpy(out, bytes, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half; /* memcpy: tensors of a mapped file need not be aligned */
        double wide;
        if (t == DT_F16) {
            memcpy(&half, bytes + 2 * i, 2);
            out[i] = f32_from_f16(half);
        } else if (t == DT_BF16) {
            memcpy(&half, bytes + 2 * i, 2);
            out[i] = f32_from_bits((uint32_t)half << 16);
        } else if (t == DT_F64) {
            memcpy(&wide, bytes + 8 * i, 8);
            out[i] = (float)wide;
        } else {
            out[i] = 0; /* integer types hold no weights; weights.h refuses them by name */
        }
    }
}
