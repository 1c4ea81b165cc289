/* Special tokens of a tokenizer folder: which ids start, end and pad a prompt, and which texts in a prompt become one
 * id whatever surrounds them. */
#ifndef DRPO_MODEL_TOKENIZER_SPECIAL_H
#define DRPO_MODEL_TOKENIZER_SPECIAL_H

#include <stdbool.h>

#include "model/tokenizer_bpe.h"

enum { MAX_SPECIAL = 64 };

typedef struct SpecialToken {
    char *text;
    int32_t id;
    bool normalized; /* looked for in the lower-case text instead of the raw one */
    bool listed;     /* by added_tokens_decoder, which nothing overrides */
    bool replaced;   /* a later role gave the same token another flag */
} SpecialToken;

typedef struct SpecialTokens {
    SpecialToken token[MAX_SPECIAL];
    int n;
    int length; /* model_max_length */
    int32_t start, end, unknown, padding;
} SpecialTokens;

/* FOLDER/tokenizer_config.json and special_tokens_map.json, either may be missing. Frees nothing on failure: call
 * special_tokens_free. */
int special_tokens_read(const char *folder, const Bpe *bpe, SpecialTokens *s, Error *err);
void special_tokens_free(SpecialTokens *s);
/* The first token in text[0..size) of the raw or the normalized kind, the longest one of several at one place. *start:
 * bytes before it (size when there is none), *length: its own. */
const SpecialToken *special_tokens_find(const SpecialTokens *s, bool normalized, const char *text, size_t size,
                                        size_t *start, size_t *length);

#endif
