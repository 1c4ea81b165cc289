/* BERT's WordPiece tokenizer (uncased) from a vocab.txt with one token per line. */
#ifndef DRPO_MODEL_TOKENIZER_WORDPIECE_H
#define DRPO_MODEL_TOKENIZER_WORDPIECE_H

#include "model/tokenizer_bpe.h"

typedef struct WordPiece WordPiece;

int wordpiece_open(const char *path, WordPiece **out, Error *err);
void wordpiece_free(WordPiece *w);
int wordpiece_size(const WordPiece *w); /* tokens in the vocabulary */
/* Appends [CLS], the ids of the text, [SEP]: `most` of them at most, the end of a longer text is left out. */
int wordpiece_encode(const WordPiece *w, const char *text, int most, TokenIds *ids, Error *err);

#endif
