/* Numbers of bytes. */
#ifndef DRPO_BASE_SIZES_H
#define DRPO_BASE_SIZES_H

#include <stddef.h>

static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

#endif
