/* Any bytes as a PyTorch checkpoint: refused, or every tensor can be read. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "format/pickle.h"
#include "format/torch_pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned try_file(const uint8_t *data, size_t size) {
    Error err = {0};
    SafeFile *f = NULL;
    int code = torch_pickle_open_memory("input", data, size, NULL, &f, &err);
    if ((code < 0) != (f == NULL) || (code < 0) != (err.code < 0)) abort();
    if (code < 0) return 0;
    unsigned sum = 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        for (size_t j = 0; j < t->bytes; j++) sum += ((const uint8_t *)t->data)[j];
        if (safetensors_find(f, t->name) != t) abort();
    }
    safetensors_close(f);
    return sum;
}

static void number(uint8_t **p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) *(*p)++ = i < 8 ? (uint8_t)(v >> (8 * i)) : 0;
}

static void text(uint8_t **p, const void *data, size_t size) {
    memcpy(*p, data, size);
    *p += size;
}

/* An archive with the input as its pickle and a storage "0" of 64 bytes, because chance does not write zip files. */
static unsigned try_pickle(const uint8_t *pickle, size_t size) {
    static const char *const name[] = {"a/data.pkl", "a/data/0"};
    const uint8_t storage[64] = {1, 2, 3};
    const size_t bytes[] = {size, sizeof storage};
    uint8_t *file = malloc(size + 1024), *p = file, *local[2];
    if (!file) return 0;
    for (int i = 0; i < 2; i++) {
        local[i] = p;
        text(&p, "PK\3\4", 4), number(&p, 0, 22 - 8), number(&p, bytes[i], 4), number(&p, bytes[i], 4);
        number(&p, strlen(name[i]), 2), number(&p, 0, 2), text(&p, name[i], strlen(name[i]));
        text(&p, i ? storage : pickle, bytes[i]);
    }
    const uint8_t *directory = p;
    for (int i = 0; i < 2; i++) {
        text(&p, "PK\1\2", 4), number(&p, 0, 16), number(&p, bytes[i], 4), number(&p, bytes[i], 4);
        number(&p, strlen(name[i]), 2), number(&p, 0, 12), number(&p, (uint64_t)(local[i] - file), 4);
        text(&p, name[i], strlen(name[i]));
    }
    const size_t length = (size_t)(p - directory);
    text(&p, "PK\5\6", 4), number(&p, 0, 4), number(&p, 2, 2), number(&p, 2, 2), number(&p, length, 4);
    number(&p, (uint64_t)(directory - file), 4), number(&p, 0, 2);
    const unsigned sum = try_file(file, (size_t)(p - file));
    free(file);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return try_file(data, size) + try_pickle(data, size) == 1 ? -1 : 0;
}
