/* Any bytes as a safetensors file: refused, or every tensor lies inside the file. */
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned try_file(const uint8_t *data, size_t size) {
    Error err = {0};
    SafeFile *f = NULL;
    int code = safetensors_open_memory("input", data, size, &f, &err);
    if ((code < 0) != (f == NULL) || (code < 0) != (err.code < 0)) abort();
    if (code < 0) return 0;
    unsigned sum = 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        for (size_t j = 0; j < t->bytes; j++)
            sum += ((const uint8_t *)t->data)[j]; /* the sanitizer watches the bounds */
        if (safetensors_find(f, t->name) != t) abort();
    }
    for (size_t i = 0; i < safetensors_metadata_count(f); i++) {
        TextPair pair = safetensors_metadata_at(f, i);
        if (!pair.key || safetensors_metadata(f, pair.key) != pair.value) abort();
    }
    safetensors_close(f);
    return sum;
}

/* Once as it is; once as a header alone, with the fitting length in front and data[0] bytes behind it, because chance
 * hardly ever hits the right length. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned sum = try_file(data, size);
    if (size < 1) return 0;
    size_t header = size - 1, tail = data[0];
    uint8_t *file = calloc(1, 8 + header + tail);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)header >> (8 * i));
    memcpy(file + 8, data + 1, header);
    sum += try_file(file, 8 + header + tail);
    free(file);
    return sum == 1 ? -1 : 0;
}
