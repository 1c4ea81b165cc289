/* CLIP byte-pair tokenizer from a folder with vocab.json and merges.txt, or tokenizer.json; tokenizer_config.json,
 * special_tokens_map.json. */
#ifndef DRPO_MODEL_TOKENIZER_H
#define DRPO_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Tokenizer Tokenizer;

int tokenizer_open(const char *folder, Tokenizer **out, Error *err);
void tokenizer_free(Tokenizer *t);
int tokenizer_length(const Tokenizer *t); /* model_max_length */
int tokenizer_vocab(const Tokenizer *t);
/* Writes tokenizer_length ids: start, text, end, padding. *truncated (may be NULL): the text did not fit. `prompt` is
 * UTF-8, else DRPO_E_INPUT. */
int tokenizer_encode(const Tokenizer *t, const char *prompt, int32_t *ids, bool *truncated, Error *err);

#endif
