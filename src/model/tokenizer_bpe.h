/* Byte-pair encoding of one word: its bytes become symbols, and neighbours are joined in the order of merges.txt. */
#ifndef DRPO_MODEL_TOKENIZER_BPE_H
#define DRPO_MODEL_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Bpe Bpe;

typedef struct TokenIds { /* grows; freed with free(ids.id) */
    int32_t *id;
    size_t n, room;
} TokenIds;

int token_ids_push(TokenIds *ids, int32_t id, Error *err);

/* FOLDER/vocab.json and FOLDER/merges.txt; without them, the same in FOLDER/tokenizer.json. */
int bpe_open(const char *folder, Bpe **out, Error *err);
/* The same for vocabularies that do not mark where a word ends (GPT-2, Qwen). */
int bpe_open_unmarked(const char *folder, Bpe **out, Error *err);
void bpe_free(Bpe *b);
int bpe_size(const Bpe *b);                        /* largest id + 1 */
int32_t bpe_find(const Bpe *b, const char *token); /* its id, -1: not in the vocabulary */
/* Appends the tokens of a word of n >= 1 bytes; `unknown` stands for symbols that the vocabulary lacks. */
int bpe_encode(const Bpe *b, const char *word, size_t n, int32_t unknown, TokenIds *ids, Error *err);

#endif
