/* Safetensors: named tensors in one file, mapped for reading, written as a whole.
 *
 * The header is checked completely before anything is handed out: every tensor that a SafeFile shows lies inside the
 * file, overlaps no other, and has the size that its shape and type ask for. Data may be unaligned. */
#ifndef DRPO_FORMAT_SAFETENSORS_H
#define DRPO_FORMAT_SAFETENSORS_H

#include "base/error.h"
#include "engine/tensor.h"
#include "format/pair.h"

enum { SAFE_MAX_RANK = 8 };

typedef struct SafeTensor {
    const char *name;
    DType dtype;
    int rank;
    int64_t dim[SAFE_MAX_RANK];
    const void *data;
    size_t bytes;
} SafeTensor;

typedef struct SafeFile SafeFile;

int safetensors_open(const char *path, SafeFile **out, Error *err);
/* The same for a file that is in memory already and stays there until safetensors_close; `name` is for messages. */
int safetensors_open_memory(const char *name, const void *data, size_t size, SafeFile **out, Error *err);
void safetensors_close(SafeFile *f); /* NULL is fine */
const char *safetensors_path(const SafeFile *f);
bool safetensors_maps(const SafeFile *f, const void *data); /* data lies in the mapped file */

size_t safetensors_count(const SafeFile *f);
const SafeTensor *safetensors_at(const SafeFile *f, size_t i);           /* in the order of the file's data */
const SafeTensor *safetensors_find(const SafeFile *f, const char *name); /* NULL: no such tensor */
const char *safetensors_metadata(const SafeFile *f, const char *key);    /* NULL: no such key */
size_t safetensors_metadata_count(const SafeFile *f);
TextPair safetensors_metadata_at(const SafeFile *f, size_t i);

/* Atomic. Checks `bytes` against shape and type; adds `format: pt` unless the metadata has that key. Larger element
 * types come first and the data starts on a multiple of 8, so every tensor is aligned. */
int safetensors_write(const char *path, const SafeTensor *tensors, size_t n, const TextPair *metadata, size_t m,
                      Error *err);
/* The same of tensors that are nowhere yet: `make` gives bytes first..first+n-1 of one (`data` is not read), in file
 * order. A result below 0 ends it. */
enum { SAFE_PIECE = 1 << 20 }; /* `first` is a multiple of it */
typedef int SafeMaker(void *user, const SafeTensor *t, size_t first, size_t n, void *out, Error *err);
int safetensors_write_made(const char *path, const SafeTensor *tensors, size_t n, SafeMaker *make, void *user,
                           Error *err);

#endif
