/* Small questions about strings. */
#ifndef DRPO_BASE_TEXT_H
#define DRPO_BASE_TEXT_H

#include <stdbool.h>
#include <string.h>

static inline bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

#endif
