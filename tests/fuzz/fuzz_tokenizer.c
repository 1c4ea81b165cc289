/* Any bytes as a prompt: refused as no UTF-8, or turned into ids of the vocabulary. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/utf8.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const Tokenizer *the_tokenizer(void) {
    static Tokenizer *tokenizer;
    Error err = {0};
    if (!tokenizer && tokenizer_open(SOURCE_DIR "/assets/tiny-turbo/tokenizer", &tokenizer, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const Tokenizer *t = the_tokenizer();
    char *prompt = malloc(size + 1);
    int32_t *ids = malloc((size_t)tokenizer_length(t) * sizeof *ids);
    memcpy(prompt, data, size);
    prompt[size] = 0;
    size_t length = strlen(prompt);
    Error err = {0};
    bool truncated = false;
    int code = tokenizer_encode(t, prompt, ids, &truncated, &err);
    if (code < 0 && utf8_valid_prefix(prompt, length) == length) abort();
    for (int i = 0; code == 0 && i < tokenizer_length(t); i++)
        if (ids[i] < 0 || ids[i] >= tokenizer_vocab(t)) abort();
    free(ids);
    free(prompt);
    return 0;
}
