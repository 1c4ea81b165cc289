/* Score table: what `drpo eval` measured, base against tuned, with intervals. */
#ifndef DRPO_REPORT_SCORE_TABLE_H
#define DRPO_REPORT_SCORE_TABLE_H

#include <stdio.h>

#include "base/error.h"

/* Reads eval/table.json; nothing when it does not exist. */
int score_table_write(FILE *out, const char *path, Error *err);

#endif
