/* What the files of the program share. */
#ifndef DRPO_CLI_H
#define DRPO_CLI_H

#include "drpo.h"

/* Where messages, results and progress go: results to stdout, the rest to stderr, progress in one line that is redrawn
 * when stderr is a terminal. */
typedef struct Terminal {
    int rewrites;  /* stderr is a terminal that understands carriage returns */
    int colours;   /* and colours (NO_COLOR is not set) */
    int line_open; /* a progress line is on the screen */
    int failed;    /* stdout refused a line */
    double last;   /* when plain progress was last printed */
} Terminal;

/* Also takes over Ctrl-C: the first asks the run to save and stop, the second kills. */
drpo_callbacks terminal_open(Terminal *t);
void terminal_close(Terminal *t);

#endif
