/* Stop note: why a rule of --stop-when ended a run, and which evaluation was kept. */
#ifndef DRPO_REPORT_STOP_NOTE_H
#define DRPO_REPORT_STOP_NOTE_H

#include <stdio.h>

#include "base/error.h"

typedef struct StopNote {
    long step, kept;           /* of the last evaluation; kept -1: none */
    char rules[192], why[512]; /* "": no rule was broken */
} StopNote;

/* The last line of eval.jsonl. */
int stop_note_read(const char *path, StopNote *out, Error *err);
/* A paragraph; nothing when no rule was broken. */
void stop_note_write(FILE *out, const StopNote *n);

#endif
