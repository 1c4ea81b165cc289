/* Stop note: why a rule of --stop-when ended a run, and which evaluation was kept. */
#ifndef DRPO_REPORT_STOP_NOTE_H
#define DRPO_REPORT_STOP_NOTE_H

#include <stdio.h>

#include "base/error.h"

/* Reads eval.jsonl; nothing when its last line says that no rule was broken. */
int stop_note_write(FILE *out, const char *path, Error *err);

#endif
