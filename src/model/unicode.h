/* The little of Unicode that prompts need: canonical composition and decomposition (NFC, NFD) and lower case, the same
 * on every machine whatever its locale. */
#ifndef DRPO_MODEL_UNICODE_H
#define DRPO_MODEL_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* The character at text[*at] of valid UTF-8; moves *at behind it. */
uint32_t utf8_next(const char *text, size_t *at);
/* Writes 1 to 4 bytes, returns how many. */
size_t utf8_put(uint32_t c, char out[4]);

/* Valid UTF-8 -> its NFC, every character in lower case (without regard to its neighbours), ended by 0. NULL: out of
 * memory. The caller frees it. */
char *unicode_nfc_lower(const char *text, size_t size);
/* As it is in NFC; its NFD in lower case. */
char *unicode_nfc(const char *text, size_t size);
char *unicode_nfd_lower(const char *text, size_t size);

#endif
