/* A child process that is spoken to in lines: started in its own process group, its stderr drained while we wait.
 *
 * No call blocks beyond its deadline, no signal handler is installed, and a child that dies while we write is an error,
 * not a SIGPIPE. */
#ifndef DRPO_STEP_REWARD_CHILD_H
#define DRPO_STEP_REWARD_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

enum { CHILD_STDERR_KEPT = 2048, CHILD_LINE_MAX = 1 << 20 };

typedef struct Child {
    pid_t pid; /* 0: not running */
    int to, from, errors;
    char kept[CHILD_STDERR_KEPT]; /* the last of its stderr, a ring */
    size_t kept_total;
    char *line; /* bytes received and not yet handed out */
    size_t line_size, line_capacity, line_used;
    size_t line_scanned; /* bytes of the next line that hold no newline */
    size_t line_max;     /* longest line in bytes, 0: CHILD_LINE_MAX */
} Child;

typedef enum ChildEvent { CHILD_LINE, CHILD_TIMEOUT, CHILD_CLOSED, CHILD_TOO_LONG } ChildEvent;

/* `/bin/sh -c command`. */
int child_start(Child *c, const char *command, Error *err);
bool child_running(const Child *c);
/* Drops what it has printed so far, so that a surplus reply is not taken for the next one. */
void child_discard(Child *c);
/* Writes `out` as far as the child reads it, and waits for one line until `deadline` (of clock_seconds). *written
 * counts the bytes of `out` that are gone; *line is 0-terminated, without its newline, valid until the next call. */
int child_exchange(Child *c, const char *out, size_t size, size_t *written, double deadline, char **line,
                   ChildEvent *event, Error *err);
/* The end of its stderr as one printable line. */
void child_stderr_text(const Child *c, char *text, size_t size);
/* How it ended, in words ("exited with status 127"), after at most `patience` seconds, in which its stderr is read to
 * the end;
 * "" while it still runs. */
void child_exit_text(Child *c, double patience, char *text, size_t size);
/* The sign to end by itself; child_stop does it too. */
void child_close_input(Child *c);
/* Closes its stdin and gives it `patience` seconds, then SIGTERM to its group and 2 seconds, then SIGKILL. Releases
 * everything. */
void child_stop(Child *c, double patience);

#endif
