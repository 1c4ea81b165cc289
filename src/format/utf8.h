/* UTF-8 checks for text that comes from outside. */
#ifndef DRPO_FORMAT_UTF8_H
#define DRPO_FORMAT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Number of leading bytes that are valid UTF-8 (RFC 3629: no overlong forms, no surrogates); `size` when all are. */
size_t utf8_valid_prefix(const char *text, size_t size);

#endif
