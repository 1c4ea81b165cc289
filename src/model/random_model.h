/* Random model: a diffusers folder in the published shape of a family, with random weights, for measuring time and
 * memory where the published files are not. Values are scaled so that activations stay near unit size.
 *
 * No list of tensors is kept: networks are built on blank weights (weights_blank), and what they ask for is written. */
#ifndef DRPO_MODEL_RANDOM_MODEL_H
#define DRPO_MODEL_RANDOM_MODEL_H

#include "model/single_file.h"

/* Who watches: `each` is called with the bytes done and in all, first with 0; a result below 0 stops. NULL: nobody. */
typedef struct RandomWatch {
    int (*each)(void *user, size_t done, size_t all, Error *err);
    void *user;
} RandomWatch;

/* Makes FOLDER, which must not exist, as a whole: configurations, tokenizers with the vocabulary of the folder
 * `tokenizer`, weights in float16 (2.6 GB for SD-Turbo, 6.9 GB for SDXL-Turbo), and in FOLDER/features a latent feature
 * network of the published shape (0.4 GB). Too little room on the disk is an error before anything large is written. */
int random_model_make(Family f, const char *tokenizer, const char *folder, RandomWatch watch, Error *err);
/* Writes the weights alone, for what the config.json files in FOLDER describe; `features` too where it has one. */
int random_model_fill(const char *folder, RandomWatch watch, Error *err);

#endif
