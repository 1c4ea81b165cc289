/* Messages for people: formatted here, shown by whoever owns the callback. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void send_line(const Log *log, int level, const char *format, va_list args) {
    if (!log || !log->line) return;
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    log->line(log->user, level, text);
}

void log_info(const Log *log, const char *format, ...) {
    va_list args;
    va_start(args, format);
    send_line(log, 0, format, args);
    va_end(args);
}

void log_warn(const Log *log, const char *format, ...) {
    va_list args;
    va_start(args, format);
    send_line(log, 1, format, args);
    va_end(args);
}
