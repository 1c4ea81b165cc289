/* Base64 (RFC 4648, with padding): images inside JSON and HTML. */
#ifndef DRPO_FORMAT_BASE64_H
#define DRPO_FORMAT_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

size_t base64_length(size_t bytes); /* of the text, without the terminating 0 */
void base64_encode(const void *data, size_t size, char *text /* base64_length(size) + 1 */);
/* `out` holds length / 4 * 3 bytes; *size is what was written. Anything but canonical base64 is an error. */
int base64_decode(const char *text, size_t length, uint8_t *out, size_t *size, Error *err);

#endif
