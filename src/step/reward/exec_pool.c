/* Worker pool: programs spoken to in lines of JSON. See exec_pool.h. In the update: decode -> reward. */
#include "step/reward/exec_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "format/png.h"
#include "step/reward/child.h"

enum { SKIPPED_LINES_MAX = 10000 };

typedef struct Worker {
    Child child;
    bool busy;
    bool ready;       /* the running child has answered or said so */
    char folder[512]; /* of the pictures, for paths; "" until needed */
    int files;        /* pictures written there */
} Worker;

struct ExecPool {
    const char *kind;    /* for messages */
    const char *command; /* behind the workers, in the same block */
    PictureForm form;
    double timeout, ready_timeout;
    int workers;
    size_t line_max;
    pthread_mutex_t lock; /* of Worker.busy */
    Worker worker[];
};

/* ---- request ---- */

static int make_folder(Worker *w, Error *err) {
    if (*w->folder) return 0;
    const char *base = getenv("TMPDIR");
    snprintf(w->folder, sizeof w->folder, "%.400s/drpo-reward-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(w->folder)) return 0;
    const int code = fail_errno(err, DRPO_E_IO, "cannot make the folder %s for pictures; set TMPDIR", w->folder);
    *w->folder = 0;
    return code;
}

static int write_pictures(Worker *w, const Pictures *p, Error *err) {
    const size_t bytes = (size_t)p->height * (size_t)p->width * 3;
    TRY(make_folder(w, err));
    for (int k = 0; k < p->count; k++) {
        char path[600];
        message_picture_path(w->folder, k, path, sizeof path);
        TRY(png_write_rgb(path, p->rgb + (size_t)k * bytes, p->width, p->height, NULL, 0, err));
        if (k >= w->files) w->files = k + 1;
    }
    return 0;
}

/* The request as one line with its newline, released with free(). */
static int make_request(const ExecPool *s, Worker *w, const Prompt *prompt, const Pictures *p, char **out, Error *err) {
    char *text = NULL;
    if (s->form == PICTURES_PATHS) TRY(write_pictures(w, p, err));
    TRY(message_request(prompt, p, s->form, w->folder, &text, err));
    const size_t length = strlen(text);
    *out = realloc(text, length + 2);
    if (!*out) {
        free(text);
        return fail(err, DRPO_E_MEMORY, "no memory for a reward's request");
    }
    memcpy(*out + length, "\n", 2);
    return 0;
}

/* ---- reply ---- */

/* Ends the worker and says what happened, with the end of its stderr. */
static int broken_after(const ExecPool *s, Worker *w, Error *err, const char *what, double patience) {
    char ended[64], said[480];
    child_exit_text(&w->child, patience, ended, sizeof ended);
    child_stderr_text(&w->child, said, sizeof said);
    child_stop(&w->child, 0);
    return fail(err, DRPO_E_REWARD, "reward %s '%.200s': %s%s%s%s%s", s->kind, s->command, what, *ended ? "; it " : "",
                ended, *said ? "; its stderr ends: " : "", said);
}

static int broken(const ExecPool *s, Worker *w, Error *err, const char *what) {
    return broken_after(s, w, err, what, 0.05);
}

static int no_line(const ExecPool *s, Worker *w, ChildEvent event, Error *err) {
    char what[128];
    if (event == CHILD_CLOSED) return broken_after(s, w, err, "it ended without a reply", 0.5);
    if (event == CHILD_TOO_LONG)
        return broken(s, w, err, s->line_max ? "its reply is longer than 256 MiB" : "its reply is longer than 1 MiB");
    if (w->ready)
        snprintf(what, sizeof what, "no reply within %g s; raise ?timeout=", s->timeout);
    else
        snprintf(what, sizeof what,
                 "not ready and no reply within %g s; raise ?ready_timeout=", s->ready_timeout + s->timeout);
    return broken(s, w, err, what);
}

/* Lines that do not begin with '{' are the worker's own talk. */
static ReplyKind take_line(const char *line, const ReplyReader *reader, char *what, size_t size) {
    while (*line == ' ' || *line == '\t') line++;
    return *line == '{' ? reader->read(reader->user, line, what, size) : REPLY_OTHER;
}

/* The request goes out at once; a worker that says {"status":"ready"} first restarts the clock. */
static int converse(const ExecPool *s, Worker *w, const char *request, const ReplyReader *reader, Error *err) {
    size_t written = 0;
    char what[400];
    if (w->ready) child_discard(&w->child);
    double deadline = clock_seconds() + s->timeout + (w->ready ? 0 : s->ready_timeout);
    for (int lines = 0; lines < SKIPPED_LINES_MAX; lines++) {
        char *line = NULL;
        ChildEvent event;
        TRY(child_exchange(&w->child, request, strlen(request), &written, deadline, &line, &event, err));
        if (event != CHILD_LINE) return no_line(s, w, event, err);
        const ReplyKind kind = take_line(line, reader, what, sizeof what);
        if (kind == REPLY_FAULT) return broken(s, w, err, what);
        if (kind == REPLY_OTHER) continue;
        if (!w->ready) deadline = clock_seconds() + s->timeout;
        w->ready = true;
        if (kind == REPLY_SCORES) return 0;
    }
    return broken(s, w, err, "it printed 10000 lines that are no reply");
}

/* ---- workers ---- */

/* One of several is told which it is, so that it can choose a device. */
static int start_worker(ExecPool *s, Worker *w, Error *err) {
    char *command = NULL;
    w->ready = false;
    if (asprintf(&command, "DRPO_WORKER=%d\nexport DRPO_WORKER\n%s", (int)(w - s->worker), s->command) < 0)
        return fail(err, DRPO_E_MEMORY, "out of memory");
    const int code = child_start(&w->child, s->workers == 1 ? s->command : command, err);
    w->child.line_max = s->line_max;
    free(command);
    return code;
}

/* There are as many workers as lanes, so one is always free. */
static Worker *take_worker(ExecPool *s) {
    Worker *w = s->worker;
    pthread_mutex_lock(&s->lock);
    while (w->busy) w++;
    w->busy = true;
    pthread_mutex_unlock(&s->lock);
    return w;
}

static void return_worker(ExecPool *s, Worker *w) {
    pthread_mutex_lock(&s->lock);
    w->busy = false;
    pthread_mutex_unlock(&s->lock);
}

int exec_pool_ask(ExecPool *s, const Prompt *prompt, const Pictures *pictures, const ReplyReader *reader, Error *err) {
    Worker *w = take_worker(s);
    char *request = NULL;
    int code = make_request(s, w, prompt, pictures, &request, err);
    if (code == 0 && !child_running(&w->child)) code = start_worker(s, w, err);
    if (code == 0) code = converse(s, w, request, reader, err);
    free(request);
    return_worker(s, w);
    return code;
}

/* ---- opening, closing ---- */

static void remove_pictures(Worker *w) {
    for (int k = 0; k < w->files; k++) {
        char path[600];
        message_picture_path(w->folder, k, path, sizeof path);
        unlink(path);
    }
    if (*w->folder) rmdir(w->folder);
}

void exec_pool_close(ExecPool *s) {
    if (!s) return;
    for (int k = 0; k < s->workers; k++) child_close_input(&s->worker[k].child); /* all at once, so that none waits */
    for (int k = 0; k < s->workers; k++) {
        child_stop(&s->worker[k].child, 5);
        remove_pictures(&s->worker[k]);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static ExecPool *new_pool(const RewardSpec *spec, size_t line_max) {
    const int workers = (int)reward_number(spec, "workers");
    const size_t size = sizeof(ExecPool) + (size_t)workers * sizeof(Worker), length = strlen(spec->argument) + 1;
    ExecPool *s = calloc(1, size + length);
    if (!s) return NULL;
    s->kind = spec->kind->name;
    s->command = memcpy((char *)s + size, spec->argument, length);
    s->form = (PictureForm)reward_choice(spec, "images");
    s->timeout = reward_number(spec, "timeout");
    s->ready_timeout = reward_number(spec, "ready_timeout");
    s->workers = workers;
    s->line_max = line_max;
    for (int k = 0; k < workers; k++) s->worker[k].child = (Child){.to = -1, .from = -1, .errors = -1};
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

int exec_pool_open(const RewardSpec *spec, size_t line_max, ExecPool **out, Error *err) {
    ExecPool *s = new_pool(spec, line_max);
    if (!s) return fail(err, DRPO_E_MEMORY, "no memory for the reward %s:%.200s", spec->name, spec->argument);
    for (int k = 0; k < s->workers; k++) { /* early, so that they load while we do */
        const int code = start_worker(s, &s->worker[k], err);
        if (code == 0) continue;
        exec_pool_close(s);
        return code;
    }
    *out = s;
    return 0;
}

int exec_pool_workers(const ExecPool *s) { return s->workers; }

void exec_short_name(const char *kind, const char *command, char *name, size_t size) {
    char copy[512], *save = NULL;
    const char *chosen = NULL;
    snprintf(copy, sizeof copy, "%s", command);
    for (char *word = strtok_r(copy, " \t'\"", &save); word; word = strtok_r(NULL, " \t'\"", &save)) {
        char *slash = strrchr(word, '/'), *file = slash ? slash + 1 : word, *dot = strrchr(file, '.');
        const bool script = dot && dot > file;
        if (script) *dot = 0;
        if (!chosen || script) chosen = file;
        if (script) break;
    }
    snprintf(name, size, "%s_%s", kind, chosen ? chosen : "command");
}
