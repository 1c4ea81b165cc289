/* exec: any program as a reward, spoken to in lines of JSON (docs/rewards.md).
 *
 *     {"prompt":..., "metadata":..., "count":K, "width":W, "height":H, "images_b64":[...]}  ->  {"scores":[...]}
 *
 * Every fault (no reply, too few scores, NaN, a crash) is an error that names the command and what happened; the worker
 * is then ended, and started anew by the next call. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "format/base64.h"
#include "format/json.h"
#include "format/png.h"
#include "step/reward/child.h"
#include "step/reward/reward_internal.h"

enum { SKIPPED_LINES_MAX = 10000 };

typedef enum ImageForm { IMAGES_PNG, IMAGES_RGB, IMAGES_PATHS } ImageForm;

typedef struct ExecState {
    char *command;
    ImageForm form;
    double timeout, ready_timeout;
    bool ready; /* the running worker has answered or said so */
    Child child;
    char folder[512]; /* of the pictures, for paths; "" until needed */
    int files;        /* pictures written there */
} ExecState;

/* ---- request ---- */

static int add_png(const Pictures *p, int k, json_t *list, Error *err) {
    const size_t size = (size_t)p->height * (size_t)p->width * 3;
    uint8_t *data = NULL;
    size_t bytes = 0;
    TRY(png_encode_rgb(p->rgb + (size_t)k * size, p->width, p->height, NULL, 0, &data, &bytes, err));
    char *text = malloc(base64_length(bytes) + 1);
    if (text) base64_encode(data, bytes, text);
    const int failed = !text || json_array_append_new(list, json_stringn_nocheck(text, base64_length(bytes))) < 0;
    free(text);
    free(data);
    return failed ? fail(err, DRPO_E_MEMORY, "no memory for the pictures sent to a reward") : 0;
}

static int add_rgb(const Pictures *p, json_t *request, Error *err) {
    const size_t bytes = (size_t)p->count * (size_t)p->height * (size_t)p->width * 3;
    char *text = malloc(base64_length(bytes) + 1);
    if (text) base64_encode(p->rgb, bytes, text);
    const int failed =
        !text || json_object_set_new(request, "rgb_b64", json_stringn_nocheck(text, base64_length(bytes))) < 0;
    free(text);
    return failed ? fail(err, DRPO_E_MEMORY, "no memory for the pictures sent to a reward") : 0;
}

static void picture_path(const ExecState *s, int k, char *path, size_t size) {
    snprintf(path, size, "%s/%04d.png", s->folder, k);
}

static int make_folder(ExecState *s, Error *err) {
    if (*s->folder) return 0;
    const char *base = getenv("TMPDIR");
    snprintf(s->folder, sizeof s->folder, "%.400s/drpo-reward-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(s->folder)) return 0;
    const int code = fail_errno(err, DRPO_E_IO, "cannot make the folder %s for pictures; set TMPDIR", s->folder);
    *s->folder = 0;
    return code;
}

static int add_path(ExecState *s, const Pictures *p, int k, json_t *list, Error *err) {
    char path[576];
    TRY(make_folder(s, err));
    picture_path(s, k, path, sizeof path);
    TRY(png_write_rgb(path, p->rgb + (size_t)k * (size_t)p->height * (size_t)p->width * 3, p->width, p->height, NULL, 0,
                      err));
    if (k >= s->files) s->files = k + 1;
    return json_array_append_new(list, json_string(path)) < 0
               ? fail(err, DRPO_E_MEMORY, "no memory for a reward's request")
               : 0;
}

static int add_pictures(ExecState *s, const Pictures *p, json_t *request, Error *err) {
    if (s->form == IMAGES_RGB) return add_rgb(p, request, err);
    json_t *list = json_array();
    if (!list || json_object_set_new(request, s->form == IMAGES_PNG ? "images_b64" : "paths", list) < 0)
        return fail(err, DRPO_E_MEMORY, "no memory for a reward's request");
    for (int k = 0; k < p->count; k++)
        TRY(s->form == IMAGES_PNG ? add_png(p, k, list, err) : add_path(s, p, k, list, err));
    return 0;
}

/* The request as one line with its newline, released with free(). */
static int make_request(ExecState *s, const Prompt *prompt, const Pictures *p, char **out, Error *err) {
    json_t *metadata = NULL;
    if (prompt->metadata)
        TRY(json_load_text("metadata of the prompt", prompt->metadata, strlen(prompt->metadata), &metadata, err));
    json_t *request =
        json_pack("{s:s, s:o, s:i, s:i, s:i}", "prompt", prompt->text, "metadata", metadata ? metadata : json_null(),
                  "count", p->count, "width", p->width, "height", p->height);
    if (!request) return fail(err, DRPO_E_INPUT, "the prompt '%.200s' is not UTF-8 text", prompt->text);
    int code = add_pictures(s, p, request, err);
    char *text = code == 0 ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    const size_t length = text ? strlen(text) : 0;
    *out = text ? malloc(length + 2) : NULL;
    if (code == 0 && !*out) code = fail(err, DRPO_E_MEMORY, "no memory for a reward's request");
    if (*out) {
        memcpy(*out, text, length);
        memcpy(*out + length, "\n", 2);
    }
    free(text);
    return code;
}

/* ---- reply ---- */

/* Ends the worker and says what happened, with the end of its stderr. */
static int broken_after(ExecState *s, Error *err, const char *what, double patience) {
    char ended[64], said[480];
    child_exit_text(&s->child, patience, ended, sizeof ended);
    child_stderr_text(&s->child, said, sizeof said);
    child_stop(&s->child, 0);
    return fail(err, DRPO_E_REWARD, "reward exec '%.200s': %s%s%s%s%s", s->command, what, *ended ? "; it " : "", ended,
                *said ? "; its stderr ends: " : "", said);
}

static int broken(ExecState *s, Error *err, const char *what) { return broken_after(s, err, what, 0.05); }

static int read_scores(ExecState *s, const json_t *list, int count, float *scores, Error *err) {
    char what[128];
    if (!json_is_array(list)) return broken(s, err, "\"scores\" in its reply is not a list");
    if (json_array_size(list) != (size_t)count) {
        snprintf(what, sizeof what, "it gave %zu scores for %d pictures", json_array_size(list), count);
        return broken(s, err, what);
    }
    for (int k = 0; k < count; k++) {
        const json_t *value = json_array_get(list, (size_t)k);
        scores[k] = (float)json_number_value(value);
        if (json_is_number(value) && isfinite(scores[k])) continue;
        snprintf(what, sizeof what, "score %d of %d is not a finite number", k + 1, count);
        return broken(s, err, what);
    }
    return 0;
}

typedef enum LineKind { LINE_SKIPPED, LINE_READY, LINE_REPLY } LineKind;

/* Lines that do not begin with '{' are the worker's own talk. */
static int take_line(ExecState *s, const char *line, int count, float *scores, LineKind *kind, Error *err) {
    *kind = LINE_SKIPPED;
    while (*line == ' ' || *line == '\t') line++;
    if (*line != '{') return 0;
    json_error_t problem;
    json_t *reply = json_loads(line, 0, &problem);
    if (!reply) {
        char what[256];
        snprintf(what, sizeof what, "its reply is not JSON (%.80s; NaN and Infinity are not): %.80s", problem.text,
                 line);
        return broken(s, err, what);
    }
    int code = 0;
    const char *status = json_string_value(json_object_get(reply, "status"));
    const json_t *message = json_object_get(reply, "error"), *list = json_object_get(reply, "scores");
    if (message && !json_is_null(message)) {
        char what[400];
        snprintf(what, sizeof what, "it reports: %.380s",
                 json_is_string(message) ? json_string_value(message) : "an error");
        code = broken(s, err, what);
    } else if (list) {
        code = read_scores(s, list, count, scores, err);
        *kind = LINE_REPLY;
    } else if (status && strcmp(status, "ready") == 0) {
        *kind = LINE_READY;
    }
    json_decref(reply);
    return code;
}

static int no_line(ExecState *s, ChildEvent event, Error *err) {
    char what[128];
    if (event == CHILD_CLOSED) return broken_after(s, err, "it ended without a reply", 0.5);
    if (event == CHILD_TOO_LONG) return broken(s, err, "its reply is longer than 1 MiB");
    if (s->ready)
        snprintf(what, sizeof what, "no reply within %g s; raise ?timeout=", s->timeout);
    else
        snprintf(what, sizeof what,
                 "not ready and no reply within %g s; raise ?ready_timeout=", s->ready_timeout + s->timeout);
    return broken(s, err, what);
}

/* The request goes out at once; a worker that says {"status":"ready"} first restarts the clock. */
static int converse(ExecState *s, const char *request, int count, float *scores, Error *err) {
    size_t written = 0;
    if (s->ready) child_discard(&s->child);
    double deadline = clock_seconds() + s->timeout + (s->ready ? 0 : s->ready_timeout);
    for (int lines = 0; lines < SKIPPED_LINES_MAX; lines++) {
        char *line = NULL;
        ChildEvent event;
        LineKind kind;
        TRY(child_exchange(&s->child, request, strlen(request), &written, deadline, &line, &event, err));
        if (event != CHILD_LINE) return no_line(s, event, err);
        TRY(take_line(s, line, count, scores, &kind, err));
        if (kind == LINE_SKIPPED) continue;
        if (!s->ready) deadline = clock_seconds() + s->timeout;
        s->ready = true;
        if (kind == LINE_REPLY) return 0;
    }
    return broken(s, err, "it printed 10000 lines that are no reply");
}

/* ---- the reward ---- */

static int exec_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    ExecState *s = r->state;
    if (!child_running(&s->child)) {
        s->ready = false;
        TRY(child_start(&s->child, s->command, err));
    }
    char *request = NULL;
    int code = make_request(s, prompt, pictures, &request, err);
    if (code == 0) code = converse(s, request, pictures->count, scores, err);
    free(request);
    return code;
}

static void exec_destroy(Reward *r) {
    ExecState *s = r->state;
    child_stop(&s->child, 5);
    for (int k = 0; k < s->files; k++) {
        char path[576];
        picture_path(s, k, path, sizeof path);
        unlink(path);
    }
    if (*s->folder) rmdir(s->folder);
    free(s->command);
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

static int read_options(const RewardSpec *spec, ExecState *s, Error *err) {
    static const char *const allowed[] = {"images", "timeout", "ready_timeout", "name", NULL};
    static const char *const forms[] = {"png", "rgb", "paths"};
    TRY(reward_options_known(spec, allowed, err));
    TRY(reward_option_seconds(spec, "timeout", 120, &s->timeout, err));
    TRY(reward_option_seconds(spec, "ready_timeout", 60, &s->ready_timeout, err));
    const char *form = reward_option(spec, "images");
    if (!form) return 0;
    for (int k = 0; k < 3; k++)
        if (strcmp(form, forms[k]) == 0) {
            s->form = (ImageForm)k;
            return 0;
        }
    return fail(err, DRPO_E_USAGE, "reward 'exec': images=%s is unknown; use png, rgb or paths", form);
}

int exec_reward_open(const RewardSpec *spec, Reward **out, Error *err) {
    if (!*spec->argument) return fail(err, DRPO_E_USAGE, "reward 'exec' needs a command: exec:COMMAND");
    char name[64];
    short_name(spec->argument, name, sizeof name);
    Reward *r = reward_new(spec, name);
    ExecState *s = calloc(1, sizeof *s);
    char *command = strdup(spec->argument);
    int code = r && s && command ? 0 : fail(err, DRPO_E_MEMORY, "no memory for the reward exec:%.200s", spec->argument);
    if (code == 0) code = read_options(spec, s, err);
    if (code == 0) code = child_start(&s->child, command, err); /* early, so that it loads while we do */
    if (code < 0) {
        free(r);
        free(s);
        free(command);
        return code;
    }
    s->command = command;
    r->state = s;
    r->score = exec_score;
    r->destroy = exec_destroy;
    *out = r;
    return 0;
}
