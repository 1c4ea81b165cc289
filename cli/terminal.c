/* Terminal: progress, messages and Ctrl-C of the drpo program. See cli.h. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* A signal handler can reach nothing else. */
static volatile sig_atomic_t stop_requested;

static void on_stop(int number) {
    static const char text[] = "\ndrpo: stopping after this update and saving; once more to kill\n";
    stop_requested = 1;
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    signal(number, SIG_DFL);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int columns(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

static void clear_line(Terminal *t) {
    if (t->line_open) fprintf(stderr, "\r\033[K");
    t->line_open = 0;
}

static void on_progress(void *user, const drpo_progress *p) {
    Terminal *t = user;
    if (t->rewrites) {
        fprintf(stderr, "\r\033[K%.*s", columns() - 1, p->line);
        fflush(stderr);
        t->line_open = 1;
        return;
    }
    /* in a log file a line now and then is enough */
    double time = now();
    if (p->step < p->steps && p->step > 3 && time - t->last < 10) return;
    t->last = time;
    fprintf(stderr, "%s\n", p->line);
}

static void on_message(void *user, int level, const char *text) {
    Terminal *t = user;
    clear_line(t);
    if (level == 2) {
        if (puts(text) < 0 || fflush(stdout) != 0) t->failed = 1;
        return;
    }
    if (level == 1)
        fprintf(stderr, t->colours ? "\033[33mwarning:\033[0m %s\n" : "warning: %s\n", text);
    else
        fprintf(stderr, "%s\n", text);
}

static int on_cancelled(void *user) {
    (void)user;
    return stop_requested;
}

drpo_callbacks terminal_open(Terminal *t) {
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    *t = (Terminal){.rewrites = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0};
    t->colours = t->rewrites && !(no_color && no_color[0]);
    struct sigaction action = {.sa_handler = on_stop};
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file size is then a failed write with a message, as a full disk is */
    return (drpo_callbacks){.progress = on_progress, .message = on_message, .cancelled = on_cancelled, .user = t};
}

void terminal_close(Terminal *t) {
    if (t->line_open) fputc('\n', stderr);
    t->line_open = 0;
}
