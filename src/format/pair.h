/* A key with its text: metadata of safetensors files, text chunks of PNG files. */
#ifndef DRPO_FORMAT_PAIR_H
#define DRPO_FORMAT_PAIR_H

typedef struct TextPair {
    const char *key, *value;
} TextPair;

#endif
