/* Picture text: the "parameters" chunk of a PNG, in the form that web interfaces write and read. */
#ifndef DRPO_TRAIN_PICTURE_TEXT_H
#define DRPO_TRAIN_PICTURE_TEXT_H

#include "train/session.h"

typedef struct PictureText {
    const char *model, *model_hash, *sampler; /* folder's name, first digits of its UNet's SHA-256 */
    const char *lora, *lora_hash;             /* NULL: none */
} PictureText;

/* `lora` as given to --lora, or "". Strings live in the arena. */
int picture_text_open(PictureText *t, Pipeline *p, const char *lora, Arena *a, Error *err);
/* "prompt\nSteps: 1, ..."; NULL when out of memory. `seed` < 0: noise from a file. */
char *picture_text(const PictureText *t, Arena *a, const char *prompt, long long seed, int width, int height);

#endif
