/* Arena: a list of zeroed blocks, each handed out front to back and all released together. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, FIRST_BLOCK = 1 << 14, LARGEST_SHARED_BLOCK = 1 << 22 };

typedef struct Block {
    struct Block *next;
    size_t used, size; /* bytes, this header (one alignment unit) included */
} Block;

struct Arena {
    Block *newest;
    size_t handed_out, next_size;
    bool failed;
};

Arena *arena_new(void) {
    Arena *a = calloc(1, sizeof *a);
    if (a) a->next_size = FIRST_BLOCK;
    return a;
}

void arena_free(Arena *a) {
    if (!a) return;
    for (Block *b = a->newest; b;) {
        Block *next = b->next;
        free(b);
        b = next;
    }
    free(a);
}

static Block *block_new(size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, size) != 0) return NULL;
    memset(memory, 0, size);
    Block *b = memory;
    b->used = ALIGNMENT;
    b->size = size;
    return b;
}

/* Makes the newest block one with room for `bytes`. */
static bool grow(Arena *a, size_t bytes) {
    size_t size = a->next_size;
    bool large = bytes > size - ALIGNMENT;
    if (large) size = bytes + ALIGNMENT;
    Block *b = block_new(size);
    if (!b) return false;
    b->next = a->newest;
    a->newest = b;
    if (!large && a->next_size < LARGEST_SHARED_BLOCK) a->next_size *= 2;
    return true;
}

void *arena_alloc(Arena *a, size_t bytes) {
    if (!a) return NULL;
    if (bytes == 0) bytes = 1;
    if (bytes > SIZE_MAX / 2) {
        a->failed = true;
        return NULL;
    }
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if ((!a->newest || a->newest->size - a->newest->used < rounded) && !grow(a, rounded)) {
        a->failed = true;
        return NULL;
    }
    void *result = (char *)a->newest + a->newest->used;
    a->newest->used += rounded;
    a->handed_out += rounded;
    return result;
}

char *arena_strdup(Arena *a, const char *s) {
    size_t size = strlen(s) + 1;
    char *copy = arena_alloc(a, size);
    if (copy) memcpy(copy, s, size);
    return copy;
}

char *arena_printf(Arena *a, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : arena_alloc(a, (size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

size_t arena_bytes(const Arena *a) { return a ? a->handed_out : 0; }

bool arena_failed(const Arena *a) { return !a || a->failed; }
