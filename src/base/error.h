/* Errors as values: every call that can fail returns 0 or a negative code and writes one line for people.
 *
 * The line names the file, key or flag at fault and says how to mend it. Nothing in the library prints or exits.
 * Use: `return fail(err, DRPO_E_INPUT, "%s: tensor '%s' ...", path, name);` and `TRY(call(..., err));`. */
#ifndef DRPO_BASE_ERROR_H
#define DRPO_BASE_ERROR_H

#include "drpo.h" /* DRPO_ERROR_MAP: the one list of codes */

typedef struct Error {
    int code; /* 0 or a DRPO_E_* value */
    char text[1024];
} Error;

/* Writes the message (unless one is already there: the first cause wins) and returns `code`. `err` may be NULL. */
int fail(Error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As fail(), with ": <strerror(errno)>" appended. */
int fail_errno(Error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the message that is there; returns err->code. */
int fail_in(Error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

void error_clear(Error *err);

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int try_code_ = (call);                                                                                        \
        if (try_code_ < 0) return try_code_;                                                                           \
    } while (0)

#endif
