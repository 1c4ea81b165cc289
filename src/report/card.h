/* Card: command and hashes of a run, taken from its model card. */
#ifndef DRPO_REPORT_CARD_H
#define DRPO_REPORT_CARD_H

#include <stdio.h>

#include "base/error.h"

/* Writes the sections "Command" and "Hashes" of the Markdown file; nothing when it does not exist (the run is not
 * finished). */
int card_write(FILE *out, const char *path, Error *err);

#endif
