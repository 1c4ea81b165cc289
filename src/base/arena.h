/* Arena: memory that is released all at once. Graphs, configs and parsed files live in one each.
 *
 * Blocks are zeroed and 64-byte aligned. An arena that runs out of system memory returns NULL from arena_alloc and
 * remembers it (arena_failed), so that builders may check once at their end. */
#ifndef DRPO_BASE_ARENA_H
#define DRPO_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Arena Arena;

Arena *arena_new(void);    /* NULL when out of memory */
void arena_free(Arena *a); /* NULL is fine */
void *arena_alloc(Arena *a, size_t bytes);
char *arena_strdup(Arena *a, const char *s);
char *arena_printf(Arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t arena_bytes(const Arena *a);
bool arena_failed(const Arena *a);

#endif
