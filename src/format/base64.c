/* Base64: three bytes are four characters of six bits each; '=' fills up the last group. */
#include "format/base64.h"

#include <string.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_length(size_t bytes) { return (bytes + 2) / 3 * 4; }

void base64_encode(const void *data, size_t size, char *text) {
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i += 3, text += 4) {
        size_t left = size - i;
        uint32_t group =
            (uint32_t)p[i] << 16 | (uint32_t)(left > 1 ? p[i + 1] : 0) << 8 | (uint32_t)(left > 2 ? p[i + 2] : 0);
        text[0] = ALPHABET[group >> 18];
        text[1] = ALPHABET[group >> 12 & 63];
        text[2] = left > 1 ? ALPHABET[group >> 6 & 63] : '=';
        text[3] = left > 2 ? ALPHABET[group & 63] : '=';
    }
    *text = 0;
}

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(const char *text, size_t length, uint8_t *out, size_t *size, Error *err) {
    *size = 0;
    if (length % 4 != 0) return fail(err, DRPO_E_INPUT, "base64 text of %zu characters: not a multiple of 4", length);
    size_t padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=') padding++;
    size_t written = 0;
    for (size_t i = 0; i < length; i += 4) {
        size_t filled = i + 4 == length ? 4 - padding : 4;
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < filled ? digit(text[i + j]) : 0;
            if (value < 0) return fail(err, DRPO_E_INPUT, "base64 text: wrong character at position %zu", i + j);
            group = group << 6 | (uint32_t)value;
        }
        uint32_t unused = filled == 4 ? 0 : filled == 3 ? group & 0xff : group & 0xffff;
        if (unused) return fail(err, DRPO_E_INPUT, "base64 text: stray bits at its end");
        for (size_t j = 0; j + 1 < filled; j++) out[written++] = (uint8_t)(group >> (16 - 8 * j));
    }
    *size = written;
    return 0;
}
