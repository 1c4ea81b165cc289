/* Pairs: given pictures that a prompt's candidates are drawn to and pushed from, instead of each other.
 *
 * A line of a pairs file: {"prompt": ..., "chosen": PATH or [PATH, ...], "rejected": PATH or [PATH, ...]}; paths are
 * relative to the file's folder. */
#ifndef DRPO_STEP_PAIRS_H
#define DRPO_STEP_PAIRS_H

#include "format/prompts.h"

enum { MAX_PAIR_IMAGES = 64 }; /* of one line, on either side */

typedef struct Pair {
    int chosen, rejected;
    const char *path[2 * MAX_PAIR_IMAGES]; /* chosen, then rejected; in the arena */
} Pair;

int pair_parse(const Prompt *prompt, const char *folder, Arena *a, Pair *out, Error *err);
/* Every line is understood and every picture is there; nothing is read yet. */
int pairs_check(const PromptList *prompts, const char *folder, Error *err);
/* The picture as the trainer sees it: short side resized (bilinear, smoothed), middle cut out, [3,height,width] in
 * [-1,1]. */
int pair_picture(const char *path, int height, int width, float *image, Error *err);

#endif
