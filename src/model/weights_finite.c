/* Are all weights finite? A file that was cut and padded, or a run that diverged, holds values that are not. */
#include <string.h>

#include "format/safetensors.h"
#include "model/weights.h"

/* All bits of the exponent set: infinite or not a number. Data may be unaligned. */
#define DEFINE_FINITE(name, word, mask)                                                                                \
    static bool name(const void *data, size_t n) {                                                                     \
        const char *at = data;                                                                                         \
        bool finite = true;                                                                                            \
        for (size_t i = 0; i < n; i++) {                                                                               \
            word bits;                                                                                                 \
            memcpy(&bits, at + i * sizeof bits, sizeof bits);                                                          \
            finite &= (bits & (mask)) != (mask);                                                                       \
        }                                                                                                              \
        return finite;                                                                                                 \
    }
DEFINE_FINITE(finite_f32, uint32_t, 0x7f800000u)
DEFINE_FINITE(finite_f16, uint16_t, 0x7c00u)
DEFINE_FINITE(finite_bf16, uint16_t, 0x7f80u)
DEFINE_FINITE(finite_f64, uint64_t, 0x7ff0000000000000u)

const char *weights_not_finite(const Weights *w) {
    for (size_t i = 0; i < weights_count(w); i++) {
        const SafeTensor *t = weights_at(w, i);
        size_t n = t->bytes / dtype_bytes(t->dtype);
        bool finite = true;
        if (t->dtype == DT_F32) finite = finite_f32(t->data, n);
        if (t->dtype == DT_F16) finite = finite_f16(t->data, n);
        if (t->dtype == DT_BF16) finite = finite_bf16(t->data, n);
        if (t->dtype == DT_F64) finite = finite_f64(t->data, n);
        if (!finite) return t->name;
    }
    return NULL;
}
