/* Messages for people go to one callback; the library itself never prints. */
#ifndef DRPO_BASE_LOG_H
#define DRPO_BASE_LOG_H

typedef struct Log {
    void (*line)(void *user, int level, const char *text); /* level 0 info, 1 warning; NULL: silent */
    void *user;
} Log;

void log_info(const Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_warn(const Log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
