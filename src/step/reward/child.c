/* A child process that is spoken to in lines (child.h). In the update: how `exec:` rewards are reached. */
#include "step/reward/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

extern char **environ;

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void pause_briefly(void) { nanosleep(&(struct timespec){0, 5000000}, NULL); }

/* ---- starting ---- */

static int spawn(Child *c, const char *command, const int pipes[3][2]) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, standard;
    sigemptyset(&none);
    sigemptyset(&standard);
    sigaddset(&standard, SIGPIPE);
    sigaddset(&standard, SIGINT);
    sigaddset(&standard, SIGTERM);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&files, pipes[0][0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, pipes[1][1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, pipes[2][1], STDERR_FILENO);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &standard);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *const arguments[] = {"sh", "-c", (char *)command, NULL};
    const int code = posix_spawn(&c->pid, "/bin/sh", &files, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return code;
}

int child_start(Child *c, const char *command, Error *err) {
    *c = (Child){.to = -1, .from = -1, .errors = -1};
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int code = 0;
    for (int k = 0; k < 3 && code == 0; k++)
        if (pipe2(pipes[k], O_CLOEXEC) < 0) code = errno;
    if (code == 0) code = spawn(c, command, pipes);
    close_fd(&pipes[0][0]);
    close_fd(&pipes[1][1]);
    close_fd(&pipes[2][1]);
    c->to = pipes[0][1];
    c->from = pipes[1][0];
    c->errors = pipes[2][0];
    if (code != 0) {
        c->pid = 0;
        child_stop(c, 0);
        return fail(err, DRPO_E_REWARD, "cannot start '%.300s': %s", command, strerror(code));
    }
    fcntl(c->to, F_SETFL, O_NONBLOCK);
    fcntl(c->from, F_SETFL, O_NONBLOCK);
    fcntl(c->errors, F_SETFL, O_NONBLOCK);
    return 0;
}

bool child_running(const Child *c) { return c->pid > 0; }

/* ---- speaking ---- */

/* write() that reports a reader who left as EPIPE instead of raising SIGPIPE: the signal is blocked in this thread
 * alone and taken back if it was ours. */
static ssize_t write_quietly(int fd, const char *data, size_t size) {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    const bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const ssize_t n = write(fd, data, size);
    const int problem = errno;
    if (n < 0 && problem == EPIPE && !was_pending)
        while (sigtimedwait(&pipe_signal, NULL, &(struct timespec){0, 0}) < 0 && errno == EINTR) {
        }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = problem;
    return n;
}

static void keep_stderr(Child *c, const char *data, size_t size) {
    for (size_t k = 0; k < size; k++) c->kept[c->kept_total++ % CHILD_STDERR_KEPT] = data[k];
}

/* One read; false when the other side has closed. */
static bool drain_stderr(Child *c) {
    char chunk[16384];
    const ssize_t n = read(c->errors, chunk, sizeof chunk);
    if (n > 0) keep_stderr(c, chunk, (size_t)n);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static int receive(Child *c, bool *open, Error *err) {
    if (c->line_capacity - c->line_size < 65537) {
        const size_t capacity = c->line_capacity ? 2 * c->line_capacity : 131072;
        char *bigger = realloc(c->line, capacity);
        if (!bigger) return fail(err, DRPO_E_MEMORY, "no memory for the reply of a reward");
        c->line = bigger;
        c->line_capacity = capacity;
    }
    const ssize_t n = read(c->from, c->line + c->line_size, 65536);
    if (n > 0) c->line_size += (size_t)n;
    *open = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
    return 0;
}

/* Hands out the next whole line of what was received. */
static char *next_line(Child *c) {
    if (c->line_used) {
        memmove(c->line, c->line + c->line_used, c->line_size - c->line_used);
        c->line_size -= c->line_used;
        c->line_used = 0;
    }
    const size_t rest = c->line_size - c->line_scanned;
    char *end = rest ? memchr(c->line + c->line_scanned, '\n', rest) : NULL;
    c->line_scanned = end ? 0 : c->line_size;
    if (!end) return NULL;
    *end = 0;
    c->line_used = (size_t)(end - c->line) + 1;
    return c->line;
}

static void send_some(Child *c, const char *out, size_t size, size_t *written) {
    const ssize_t n = write_quietly(c->to, out + *written, size - *written);
    if (n > 0)
        *written += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        *written = size; /* it reads no more; its end will be seen on stdout */
}

void child_discard(Child *c) {
    char chunk[16384];
    c->line_size = c->line_used = c->line_scanned = 0;
    for (int k = 0; k < 64 && read(c->from, chunk, sizeof chunk) > 0; k++) {
    }
}

int child_exchange(Child *c, const char *out, size_t size, size_t *written, double deadline, char **line,
                   ChildEvent *event, Error *err) {
    for (;;) {
        if ((*line = next_line(c))) {
            *event = CHILD_LINE;
            return 0;
        }
        if (c->line_size > (c->line_max ? c->line_max : CHILD_LINE_MAX)) {
            *event = CHILD_TOO_LONG;
            return 0;
        }
        const double left = deadline - clock_seconds();
        if (left <= 0) {
            *event = CHILD_TIMEOUT;
            return 0;
        }
        struct pollfd fds[3] = {
            {c->from, POLLIN, 0}, {c->errors, POLLIN, 0}, {*written < size ? c->to : -1, POLLOUT, 0}};
        const int ready = poll(fds, 3, left > 1 ? 1000 : (int)(left * 1000) + 1);
        if (ready < 0 && errno != EINTR) return fail_errno(err, DRPO_E_REWARD, "waiting for a reward failed");
        if (ready <= 0) continue;
        if (fds[1].revents && !drain_stderr(c)) close_fd(&c->errors);
        if (fds[2].revents) send_some(c, out, size, written);
        bool open = true;
        if (fds[0].revents) TRY(receive(c, &open, err));
        if (!open) {
            *event = CHILD_CLOSED;
            return 0;
        }
    }
}

void child_stderr_text(const Child *c, char *text, size_t size) {
    const size_t have = c->kept_total < CHILD_STDERR_KEPT ? c->kept_total : CHILD_STDERR_KEPT;
    const size_t take = have < size - 1 ? have : size - 1;
    size_t length = 0;
    for (size_t k = c->kept_total - take; k < c->kept_total; k++) {
        const char byte = c->kept[k % CHILD_STDERR_KEPT];
        text[length++] = (unsigned char)byte < ' ' ? ' ' : byte;
    }
    while (length && text[length - 1] == ' ') length--;
    text[length] = 0;
}

/* ---- ending ---- */

/* True when the process has ended; it stays unreaped, so that its group can still be signalled safely. */
static bool has_ended(const Child *c, siginfo_t *info) {
    memset(info, 0, sizeof *info);
    return waitid(P_PID, (id_t)c->pid, info, WEXITED | WNOHANG | WNOWAIT) < 0 || info->si_pid == c->pid;
}

static bool wait_for_end(const Child *c, double seconds) {
    siginfo_t info;
    const double deadline = clock_seconds() + seconds;
    while (!has_ended(c, &info)) {
        if (clock_seconds() >= deadline) return false;
        pause_briefly();
    }
    return true;
}

void child_exit_text(Child *c, double patience, char *text, size_t size) {
    siginfo_t info;
    *text = 0;
    if (c->pid <= 0) return;
    const double deadline = clock_seconds() + patience;
    bool open = c->errors >= 0, ended = false;
    while (clock_seconds() < deadline && (open || !ended)) {
        struct pollfd fd = {c->errors, POLLIN, 0};
        if (open && poll(&fd, 1, 5) > 0)
            open = drain_stderr(c);
        else if (!open)
            pause_briefly();
        if (!ended) ended = has_ended(c, &info);
    }
    if (!ended) return;
    if (info.si_code == CLD_EXITED && info.si_status > 128 && info.si_status <= 128 + 64) /* as shells report it */
        snprintf(text, size, "exited with status %d, that is, by signal %d", info.si_status, info.si_status - 128);
    else if (info.si_code == CLD_EXITED)
        snprintf(text, size, "exited with status %d", info.si_status);
    else
        snprintf(text, size, "was ended by signal %d", info.si_status);
}

void child_close_input(Child *c) { close_fd(&c->to); }

void child_stop(Child *c, double patience) {
    close_fd(&c->to);
    close_fd(&c->from);
    close_fd(&c->errors);
    free(c->line);
    c->line = NULL;
    c->line_size = c->line_capacity = c->line_used = c->line_scanned = 0;
    if (c->pid <= 0) return;
    if (!wait_for_end(c, patience)) {
        kill(-c->pid, SIGTERM);
        wait_for_end(c, 2);
    }
    kill(-c->pid, SIGKILL); /* the group, so that nothing the shell started is left */
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    c->pid = 0;
}
