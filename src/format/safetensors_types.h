/* What reading and writing safetensors share: names and sizes of element types, bytes of a tensor. */
#ifndef DRPO_FORMAT_SAFETENSORS_TYPES_H
#define DRPO_FORMAT_SAFETENSORS_TYPES_H

#include "base/file.h"
#include "format/safetensors.h"

typedef struct SafeType {
    const char *name;
    size_t bytes;
} SafeType;

extern const SafeType SAFE_TYPES[DT_COUNT]; /* by DType */

/* A SafeFile of tensors that another format's reader found: `tensor` [n] in the file's order with its names in `owned`,
 * data in the mapped file or in `owned`. Takes `owned` over, also on failure. Refuses a name that is there twice. */
int safe_file_from(const char *path, const SafeTensor *tensor, size_t n, Arena *owned, SafeFile **out, Error *err);
void safe_file_keep(SafeFile *f, MappedFile map); /* unmapped by safetensors_close */

/* Bytes that dtype, rank and dim ask for; false when the number does not fit. */
bool safe_tensor_bytes(const SafeTensor *t, size_t *bytes);

#endif
