/* Run folder: where a run lives, what it resumes from, what is stale in it. See run_folder.h. */
#include "train/run_folder.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

/* Step of "checkpoint-<step>", -1 for any other name. */
static long checkpoint_step(const char *name) {
    static const char prefix[] = "checkpoint-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    char *end = NULL;
    long step = strtol(name + sizeof prefix - 1, &end, 10);
    return end != name + sizeof prefix - 1 && *end == 0 && step >= 0 ? step : -1;
}

typedef int (*EntryVisit)(void *user, const char *path, const char *name, Error *err);

/* Calls `visit` for the entries of a folder as they were before the first call. */
static int each_entry(const char *folder, EntryVisit visit, void *user, Error *err) {
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, NULL, alphasort), code = 0;
    if (n < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot read the folder", folder);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        const char *name = entries[i]->d_name;
        bool fits = snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path;
        if (code == 0 && fits && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) code = visit(user, path, name, err);
        free(entries[i]);
    }
    free(entries);
    return code;
}

typedef struct Newest {
    long step;
    Arena *a;
    char *path;
} Newest;

static int visit_newest(void *user, const char *path, const char *name, Error *err) {
    (void)err;
    Newest *n = user;
    long step = checkpoint_step(name);
    if (step <= n->step || !dir_exists(path)) return 0;
    n->step = step;
    n->path = arena_strdup(n->a, path);
    return 0;
}

long run_newest_checkpoint(const char *run, Arena *a, char **path) {
    Newest n = {.step = -1, .a = a};
    if (!dir_exists(run) || each_entry(run, visit_newest, &n, NULL) < 0 || !n.path) return -1;
    *path = n.path;
    return n.step;
}

static int visit_count(void *user, const char *path, const char *name, Error *err) {
    (void)path;
    (void)name;
    (void)err;
    ++*(int *)user;
    return 0;
}

/* An option given now that would change the course of the resumed run is refused by name. */
static int refuse_changes(Config *c, const char *saved, Error *err) {
    Config *run = config_new(DRPO_TRAIN);
    if (!run) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = config_load(run, saved, SOURCE_RUN, err);
    for (int id = 0; id < OPT_COUNT && code == 0; id++) {
        OptionId o = (OptionId)id;
        if (config_has(c, o) && config_is_method(o) && strcmp(config_text(c, o), config_text(run, o)) != 0)
            code = fail(err, DRPO_E_USAGE, "--resume: the run has --%s %s, not %s; drop the option or start a new run",
                        option_info(o)->key, config_text(run, o), config_text(c, o));
    }
    bool fixed = config_choice(run, OPT_LR_SCHEDULE) == 0;
    if (code == 0 && !fixed && config_int(run, OPT_STEPS) != config_int(c, OPT_STEPS))
        code = fail(
            err, DRPO_E_USAGE,
            "--resume: the run's %s schedule ends at --steps %lld, not %lld; only a constant schedule can be extended",
            config_text(run, OPT_LR_SCHEDULE), config_int(run, OPT_STEPS), config_int(c, OPT_STEPS));
    config_free(run);
    return code;
}

static int find_checkpoint(RunFolder *r, const char *resume, Arena *a, const Log *log, Error *err) {
    if (strcmp(resume, "latest") == 0) {
        r->step = run_newest_checkpoint(r->path, a, &r->checkpoint);
        if (r->step >= 0) return 0;
        r->step = 0;
        log_warn(log, "%s holds no checkpoint yet: starting from the beginning", r->path);
        return 0;
    }
    size_t length = strlen(resume);
    while (length > 1 && resume[length - 1] == '/') length--;
    r->checkpoint = arena_printf(a, "%.*s", (int)length, resume);
    if (!r->checkpoint) return fail(err, DRPO_E_MEMORY, "out of memory");
    const char *slash = strrchr(r->checkpoint, '/');
    r->step = checkpoint_step(slash ? slash + 1 : r->checkpoint);
    if (r->step < 0 || !dir_exists(r->checkpoint))
        return fail(err, DRPO_E_INPUT, "--resume %s: no such checkpoint folder; it is named checkpoint-<step>", resume);
    const char *run = slash ? arena_printf(a, "%.*s", (int)(slash - r->checkpoint), r->checkpoint) : ".";
    if (r->path[0] && strcmp(r->path, run) != 0)
        return fail(err, DRPO_E_USAGE, "--resume %s continues the run in %s; drop --out %s", resume, run, r->path);
    r->path = (char *)run;
    return 0;
}

static int find_resumed(RunFolder *r, Config *c, Arena *a, const Log *log, Error *err) {
    const char *resume = config_text(c, OPT_RESUME);
    if (strcmp(resume, "latest") == 0 && r->path[0] == 0)
        return fail(err, DRPO_E_USAGE, "--resume latest needs --out RUN");
    TRY(find_checkpoint(r, resume, a, log, err));
    const char *saved = path_join(a, r->path, "config.yaml");
    if (!saved) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (!file_exists(saved)) {
        if (!r->checkpoint) return 0; /* nothing was written yet */
        return fail(err, DRPO_E_INPUT, "%s: missing, so the run cannot be resumed", saved);
    }
    TRY(config_load(c, saved, SOURCE_RUN, err));
    return r->checkpoint ? refuse_changes(c, saved, err) : 0;
}

static int default_path(RunFolder *r, Arena *a, Error *err) {
    time_t now = time(NULL);
    struct tm t;
    char stamp[32];
    localtime_r(&now, &t);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &t);
    r->path = arena_printf(a, "runs/%s", stamp);
    return r->path ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

int run_folder_find(Config *c, Arena *a, const Log *log, RunFolder *out, Error *err) {
    *out = (RunFolder){.path = arena_strdup(a, config_text(c, OPT_RUN)), .lock = -1};
    if (!out->path) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t n = strlen(out->path); n > 1 && out->path[n - 1] == '/'; n--) out->path[n - 1] = 0;
    if (config_text(c, OPT_RESUME)[0]) return find_resumed(out, c, a, log, err);
    if (out->path[0] == 0) return default_path(out, a, err);
    if (access(out->path, F_OK) == 0 && !dir_exists(out->path))
        return fail(err, DRPO_E_USAGE, "--out %s: is a file, not a folder", out->path);
    int entries = 0;
    if (dir_exists(out->path)) TRY(each_entry(out->path, visit_count, &entries, err));
    if (entries == 0) return 0;
    const char *saved = path_join(a, out->path, "config.yaml"), *metrics = path_join(a, out->path, "metrics.jsonl");
    bool run = saved && metrics && file_exists(saved) && file_exists(metrics);
    if (!run)
        return fail(err, DRPO_E_USAGE, "--out %s: is not empty and holds no run; choose another folder", out->path);
    if (config_bool(c, OPT_OVERWRITE)) return 0;
    return fail(err, DRPO_E_USAGE,
                "--out %s: already holds a run; add --resume latest, --overwrite, or choose another folder", out->path);
}

typedef struct Stale {
    const Log *log;
    long after; /* checkpoints of later steps go */
} Stale;

static int visit_stale(void *user, const char *path, const char *name, Error *err) {
    const Stale *s = user;
    if (strncmp(name, ".tmp-", 5) == 0) return dir_remove(path, err);
    if (strstr(name, ".tmp.") && remove(path) != 0) return fail_errno(err, DRPO_E_IO, "%s: cannot remove", path);
    if (checkpoint_step(name) <= s->after) return 0;
    log_warn(s->log, "%s is later than the resumed step: removed", path);
    return dir_remove(path, err);
}

static int visit_remove(void *user, const char *path, const char *name, Error *err) {
    (void)user;
    (void)name;
    if (remove(path) == 0) return 0; /* links too, never what they point to */
    return dir_exists(path) ? dir_remove(path, err) : fail_errno(err, DRPO_E_IO, "%s: cannot remove", path);
}

int run_folder_lock(RunFolder *r, Error *err) {
    return r->lock >= 0 || !dir_exists(r->path) ? 0 : dir_lock(r->path, &r->lock, err);
}

void run_folder_close(RunFolder *r) { dir_unlock(&r->lock); }

int run_folder_begin(RunFolder *r, const Config *c, const Log *log, Error *err) {
    int entries = 0;
    r->created = !r->checkpoint && !dir_exists(r->path);
    TRY(dir_make(r->path, err));
    TRY(run_folder_lock(r, err));
    if (config_bool(c, OPT_OVERWRITE)) TRY(each_entry(r->path, visit_remove, NULL, err));
    TRY(each_entry(r->path, visit_count, &entries, err));
    r->filled = entries == 0;
    Stale stale = {log, r->step};
    return each_entry(r->path, visit_stale, &stale, err);
}

void run_folder_undo(const RunFolder *r) {
    if (r->filled) each_entry(r->path, visit_remove, NULL, NULL);
    if (r->created) dir_remove(r->path, NULL);
}

typedef struct Count {
    long step[4096];
    int n;
} Count;

static int visit_steps(void *user, const char *path, const char *name, Error *err) {
    (void)path;
    (void)err;
    Count *c = user;
    long step = checkpoint_step(name);
    if (step >= 0 && c->n < (int)(sizeof c->step / sizeof *c->step)) c->step[c->n++] = step;
    return 0;
}

static int compare_steps(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int run_prune(const char *run, int keep, Error *err) {
    Count c = {.n = 0};
    if (keep == 0) return 0;
    TRY(each_entry(run, visit_steps, &c, err));
    qsort(c.step, (size_t)c.n, sizeof *c.step, compare_steps);
    for (int i = 0; i + keep < c.n; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/checkpoint-%ld", run, c.step[i]);
        TRY(dir_remove(path, err));
    }
    return 0;
}
