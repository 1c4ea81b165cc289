/* What reading and writing safetensors share: names and sizes of element types, bytes of a tensor. */
#ifndef DRPO_FORMAT_SAFETENSORS_TYPES_H
#define DRPO_FORMAT_SAFETENSORS_TYPES_H

#include "format/safetensors.h"

typedef struct SafeType {
    const char *name;
    size_t bytes;
} SafeType;

extern const SafeType SAFE_TYPES[DT_COUNT]; /* by DType */

/* Bytes that dtype, rank and dim ask for; false when the number does not fit. */
bool safe_tensor_bytes(const SafeTensor *t, size_t *bytes);

#endif
