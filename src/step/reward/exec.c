/* exec: any program as a reward, spoken to in lines of JSON (message.h, docs/rewards.md).
 *
 * One worker, or several that share a prompt's pictures. Every fault (no reply, too few scores, NaN, a crash) is an
 * error that names the command and what happened; the worker is then ended, and started anew by the next attempt. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "format/png.h"
#include "step/reward/child.h"
#include "step/reward/message.h"
#include "step/reward/reward_internal.h"

enum { SKIPPED_LINES_MAX = 10000 };

typedef struct Worker {
    Child child;
    bool busy;
    bool ready;       /* the running child has answered or said so */
    char folder[512]; /* of the pictures, for paths; "" until needed */
    int files;        /* pictures written there */
} Worker;

typedef struct ExecState {
    const char *command; /* behind the workers, in the same block */
    PictureForm form;
    double timeout, ready_timeout;
    int workers;
    pthread_mutex_t lock; /* of Worker.busy */
    Worker worker[];
} ExecState;

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
static int make_request(const ExecState *s, Worker *w, const Prompt *prompt, const Pictures *p, char **out,
                        Error *err) {
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
static int broken_after(const ExecState *s, Worker *w, Error *err, const char *what, double patience) {
    char ended[64], said[480];
    child_exit_text(&w->child, patience, ended, sizeof ended);
    child_stderr_text(&w->child, said, sizeof said);
    child_stop(&w->child, 0);
    return fail(err, DRPO_E_REWARD, "reward exec '%.200s': %s%s%s%s%s", s->command, what, *ended ? "; it " : "", ended,
                *said ? "; its stderr ends: " : "", said);
}

static int broken(const ExecState *s, Worker *w, Error *err, const char *what) {
    return broken_after(s, w, err, what, 0.05);
}

static int no_line(const ExecState *s, Worker *w, ChildEvent event, Error *err) {
    char what[128];
    if (event == CHILD_CLOSED) return broken_after(s, w, err, "it ended without a reply", 0.5);
    if (event == CHILD_TOO_LONG) return broken(s, w, err, "its reply is longer than 1 MiB");
    if (w->ready)
        snprintf(what, sizeof what, "no reply within %g s; raise ?timeout=", s->timeout);
    else
        snprintf(what, sizeof what,
                 "not ready and no reply within %g s; raise ?ready_timeout=", s->ready_timeout + s->timeout);
    return broken(s, w, err, what);
}

/* Lines that do not begin with '{' are the worker's own talk. */
static ReplyKind take_line(const char *line, int count, float *scores, char *what, size_t size) {
    while (*line == ' ' || *line == '\t') line++;
    return *line == '{' ? message_reply(line, count, scores, what, size) : REPLY_OTHER;
}

/* The request goes out at once; a worker that says {"status":"ready"} first restarts the clock. */
static int converse(const ExecState *s, Worker *w, const char *request, int count, float *scores, Error *err) {
    size_t written = 0;
    char what[400];
    if (w->ready) child_discard(&w->child);
    double deadline = clock_seconds() + s->timeout + (w->ready ? 0 : s->ready_timeout);
    for (int lines = 0; lines < SKIPPED_LINES_MAX; lines++) {
        char *line = NULL;
        ChildEvent event;
        TRY(child_exchange(&w->child, request, strlen(request), &written, deadline, &line, &event, err));
        if (event != CHILD_LINE) return no_line(s, w, event, err);
        const ReplyKind kind = take_line(line, count, scores, what, sizeof what);
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
static int start_worker(ExecState *s, Worker *w, Error *err) {
    w->ready = false;
    if (s->workers == 1) return child_start(&w->child, s->command, err);
    char *command = NULL;
    if (asprintf(&command, "DRPO_WORKER=%d\nexport DRPO_WORKER\n%s", (int)(w - s->worker), s->command) < 0)
        return fail(err, DRPO_E_MEMORY, "out of memory");
    const int code = child_start(&w->child, command, err);
    free(command);
    return code;
}

/* There are as many workers as lanes, so one is always free. */
static Worker *take_worker(ExecState *s) {
    Worker *w = s->worker;
    pthread_mutex_lock(&s->lock);
    while (w->busy) w++;
    w->busy = true;
    pthread_mutex_unlock(&s->lock);
    return w;
}

static void return_worker(ExecState *s, Worker *w) {
    pthread_mutex_lock(&s->lock);
    w->busy = false;
    pthread_mutex_unlock(&s->lock);
}

static int exec_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    ExecState *s = r->state;
    Worker *w = take_worker(s);
    char *request = NULL;
    int code = make_request(s, w, prompt, pictures, &request, err);
    if (code == 0 && !child_running(&w->child)) code = start_worker(s, w, err);
    if (code == 0) code = converse(s, w, request, pictures->count, scores, err);
    free(request);
    return_worker(s, w);
    return code;
}

static void remove_pictures(Worker *w) {
    for (int k = 0; k < w->files; k++) {
        char path[600];
        message_picture_path(w->folder, k, path, sizeof path);
        unlink(path);
    }
    if (*w->folder) rmdir(w->folder);
}

static void exec_destroy(Reward *r) {
    ExecState *s = r->state;
    for (int k = 0; k < s->workers; k++) child_close_input(&s->worker[k].child); /* all at once, so that none waits */
    for (int k = 0; k < s->workers; k++) {
        child_stop(&s->worker[k].child, 5);
        remove_pictures(&s->worker[k]);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* "exec_warm" for "python3 examples/rewards/warm.py --strict": the first word with a dot in its file name, else the
 * first word. */
static void short_name(const char *command, char *name, size_t size) {
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
    snprintf(name, size, "exec_%s", chosen ? chosen : "command");
}

static ExecState *new_state(const RewardSpec *spec) {
    const int workers = (int)reward_number(spec, "workers");
    const size_t size = sizeof(ExecState) + (size_t)workers * sizeof(Worker), length = strlen(spec->argument) + 1;
    ExecState *s = calloc(1, size + length);
    if (!s) return NULL;
    s->command = memcpy((char *)s + size, spec->argument, length);
    s->form = (PictureForm)reward_choice(spec, "images");
    s->timeout = reward_number(spec, "timeout");
    s->ready_timeout = reward_number(spec, "ready_timeout");
    s->workers = workers;
    for (int k = 0; k < workers; k++) s->worker[k].child = (Child){.to = -1, .from = -1, .errors = -1};
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static int exec_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    char name[64];
    short_name(spec->argument, name, sizeof name);
    Reward *r = reward_new(spec, name);
    ExecState *s = new_state(spec);
    if (!r || !s) {
        free(r);
        free(s);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward exec:%.200s", spec->argument);
    }
    r->state = s;
    r->lanes = s->workers;
    r->score = exec_score;
    r->destroy = exec_destroy;
    for (int k = 0; k < s->workers; k++) { /* early, so that they load while we do */
        const int code = start_worker(s, &s->worker[k], err);
        if (code == 0) continue;
        reward_close(r);
        return code;
    }
    *out = r;
    return 0;
}

static const RewardOption options[] = {
    {"images", REWARD_CHOICE, "png", "png|rgb|paths", "form of the pictures"},
    {"timeout", REWARD_SECONDS, "120", "", "seconds for an answer"},
    {"ready_timeout", REWARD_SECONDS, "60", "", "further seconds for the first one"},
    {"workers", REWARD_COUNT, "1", "1..64", "copies of the program that share a prompt's pictures"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind exec_kind = {
    .name = "exec",
    .argument = "COMMAND",
    .scores = "whatever the program answers",
    .needs = "a command for /bin/sh that reads and writes lines of JSON (docs/rewards.md)",
    .range = "any finite number",
    .licence = "the program's own",
    .weights = "the program's own",
    .options = options,
    .retries = 2,
    .open = exec_open,
};
