/* UTF-8 checks: each lead byte fixes how many bytes follow and which range the first of them may have. */
#include "format/utf8.h"

#include <stdint.h>

/* Length of the sequence at p, 0 when it is not valid or cut off. */
static size_t sequence_length(const uint8_t *p, size_t left) {
    uint8_t lead = p[0], low = 0x80, high = 0xbf;
    size_t length;
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        length = 2;
    else if ((lead & 0xf0) == 0xe0)
        length = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        length = 4;
    else
        return 0;
    if (left < length) return 0;
    if (lead == 0xe0) low = 0xa0;  /* shorter forms exist */
    if (lead == 0xed) high = 0x9f; /* surrogates */
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f; /* beyond U+10FFFF */
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

size_t utf8_valid_prefix(const char *text, size_t size) {
    size_t i = 0;
    while (i < size) {
        size_t length = sequence_length((const uint8_t *)text + i, size - i);
        if (length == 0) break;
        i += length;
    }
    return i;
}
