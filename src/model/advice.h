/* Advice: the command that gets what a model lacks. Part of every message about a missing or unusable file. */
#ifndef DRPO_MODEL_ADVICE_H
#define DRPO_MODEL_ADVICE_H

#include <stdbool.h>

enum { ADVICE_LENGTH = 320 };

/* "hf download stabilityai/sd-turbo --local-dir FOLDER ..." for a path at or below a model's folder. The repository is
 * the one whose cache the path lies in, else the published model of the family that model_index.json names. Returns
 * `text`. */
const char *model_advice(const char *path, char text[ADVICE_LENGTH]);
/* The same for a repository, without a folder. */
const char *repository_advice(const char *repository, char text[ADVICE_LENGTH]);
/* A text of three lines that git-lfs leaves in place of a large file. */
bool advice_is_pointer(const char *path);

#endif
