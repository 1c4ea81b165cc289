/* Qwen2's byte-level tokenizer from a folder with vocab.json and merges.txt, or tokenizer.json; its added tokens from
 * tokenizer_config.json or tokenizer.json. */
#ifndef DRPO_MODEL_TOKENIZER_QWEN_H
#define DRPO_MODEL_TOKENIZER_QWEN_H

#include "model/tokenizer_bpe.h"

typedef struct QwenTokenizer QwenTokenizer;

int qwen_tokenizer_open(const char *folder, QwenTokenizer **out, Error *err);
void qwen_tokenizer_free(QwenTokenizer *t);
int qwen_tokenizer_size(const QwenTokenizer *t);                       /* largest id + 1 */
int32_t qwen_tokenizer_find(const QwenTokenizer *t, const char *text); /* id of an added token, -1: none */
/* Gives `text` the next free id unless it is an added token already. */
int qwen_tokenizer_add(QwenTokenizer *t, const char *text, int32_t *id, Error *err);
/* Appends the ids of UTF-8 text; nothing is put around it. Added tokens in the text become their id. */
int qwen_tokenizer_encode(const QwenTokenizer *t, const char *text, TokenIds *ids, Error *err);

#endif
