/* Errors as values: the text of the first failure, written once and carried up to whoever tells the user. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void write_first(Error *err, int code, int system_error, const char *format, va_list args) {
    if (!err || err->code != 0) return;
    err->code = code;
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    if (system_error == 0 || used < 0 || (size_t)used >= sizeof err->text) return;
    char reason[128];
    snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s",
             strerror_r(system_error, reason, sizeof reason)); /* the GNU form returns the text */
}

int fail(Error *err, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    write_first(err, code, 0, format, args);
    va_end(args);
    return code;
}

int fail_errno(Error *err, int code, const char *format, ...) {
    int system_error = errno; /* before anything below can change it */
    va_list args;
    va_start(args, format);
    write_first(err, code, system_error, format, args);
    va_end(args);
    return code;
}

int fail_in(Error *err, const char *format, ...) {
    /* Without an error object the code is lost, but the caller must still see a failure. */
    if (!err) return DRPO_E_INTERNAL;
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text, sizeof text - 2, format, args);
    va_end(args);
    if (used < 0) return err->code;
    size_t context = strlen(text);
    memcpy(text + context, ": ", 3);
    /* What does not fit behind the context is cut off. */
    size_t room = sizeof text - context - 3, length = strnlen(err->text, room);
    memcpy(text + context + 2, err->text, length);
    text[context + 2 + length] = 0;
    memcpy(err->text, text, sizeof text);
    return err->code != 0 ? err->code : DRPO_E_INTERNAL;
}

void error_clear(Error *err) {
    if (!err) return;
    err->code = 0;
    err->text[0] = 0;
}
