/* Repository: resolves an id in the Hugging Face cache, without a network. See repository.h. */
#include "model/repository.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/advice.h"

enum { REF_LIMIT = 4096, LONGEST_ID = 96 };

bool repository_is_id(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t org = strspn(name, allowed), rest = name[org] == '/' ? strspn(name + org + 1, allowed) : 0;
    if (org == 0 || rest == 0 || name[org + 1 + rest] || org + rest > LONGEST_ID) return false;
    return name[0] != '.' && name[org + 1] != '.' && !strstr(name, "--") && !strstr(name, "..");
}

/* A folder from the environment, with "~" for the home folder; NULL: not set. */
static const char *from_environment(const char *variable, const char *below, Arena *a) {
    const char *value = getenv(variable), *home = getenv("HOME");
    if (!value || !value[0]) return NULL;
    if (value[0] == '~' && (value[1] == '/' || !value[1]) && home)
        return arena_printf(a, "%s%s%s", home, value + 1, below);
    return arena_printf(a, "%s%s", value, below);
}

const char *repository_cache(Arena *a) {
    static const struct {
        const char *variable, *below;
    } place[] = {{"HF_HUB_CACHE", ""},
                 {"HUGGINGFACE_HUB_CACHE", ""},
                 {"HF_HOME", "/hub"},
                 {"XDG_CACHE_HOME", "/huggingface/hub"},
                 {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        const char *found = from_environment(place[i].variable, place[i].below, a);
        if (found) return found;
    }
    return arena_strdup(a, ".cache/huggingface/hub");
}

/* "stabilityai/sd-turbo" -> CACHE/models--stabilityai--sd-turbo */
static const char *cached_folder(const char *id, Arena *a) {
    const char *cache = repository_cache(a);
    int org = (int)strcspn(id, "/");
    return cache ? arena_printf(a, "%s/models--%.*s--%s", cache, org, id, id + org + 1) : NULL;
}

/* What refs/REVISION says, else the revision itself: it may be a commit. NULL: out of memory. */
static const char *commit_of(const char *folder, const char *revision, Arena *a) {
    char *text = NULL;
    size_t size = 0;
    const char *ref = arena_printf(a, "%s/refs/%s", folder, revision);
    if (!ref) return NULL;
    if (!file_exists(ref) || file_read_text(ref, REF_LIMIT, a, &text, &size, NULL) < 0) return revision;
    text[strcspn(text, " \r\n\t")] = 0;
    return text;
}

/* A snapshot that is there, for a message; NULL: none. */
static const char *some_snapshot(const char *folder, Arena *a) {
    const char *path = path_join(a, folder, "snapshots"), *found = NULL;
    DIR *dir = path ? opendir(path) : NULL;
    for (struct dirent *e = dir ? readdir(dir) : NULL; e && !found; e = readdir(dir))
        if (e->d_name[0] != '.') found = arena_strdup(a, e->d_name);
    if (dir) closedir(dir);
    return found;
}

static int fail_absent(const char *id, const char *revision, const char *cached, Arena *a, Error *err) {
    char get[ADVICE_LENGTH];
    const char *other = some_snapshot(cached, a), *cache = repository_cache(a);
    bool named = strcmp(revision, "main") != 0;
    repository_advice(id, get);
    if (other)
        return fail(err, DRPO_E_INPUT,
                    "--model %s: the cache has no revision '%s', only %s; add --revision %s, or: %s%s%s", id, revision,
                    other, other, get, named ? " --revision " : "", named ? revision : "");
    return fail(err, DRPO_E_INPUT, "--model %s: neither a folder nor in the Hugging Face cache %s; get it: %s%s%s", id,
                cache ? cache : "", get, named ? " --revision " : "", named ? revision : "");
}

int repository_find(const char *id, const char *revision, Arena *a, const char **folder, Error *err) {
    if (!revision || !revision[0]) revision = "main";
    if (revision[0] == '/' || strstr(revision, ".."))
        return fail(err, DRPO_E_USAGE, "--revision %s: a branch, tag or commit is needed", revision);
    const char *cached = cached_folder(id, a);
    const char *commit = cached ? commit_of(cached, revision, a) : NULL;
    *folder = commit ? arena_printf(a, "%s/snapshots/%s", cached, commit) : NULL;
    if (!*folder) return fail(err, DRPO_E_MEMORY, "--model %s: out of memory", id);
    if (commit[0] && !strchr(commit, '/') && dir_exists(*folder)) return 0;
    return fail_absent(id, revision, cached, a, err);
}
