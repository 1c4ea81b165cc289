/* Cache: see cache.h. A record of a file's SHA-256 is one line, named by the hash of the file's path:
 *
 *     sha256 size seconds nanoseconds inode device path
 *
 * Nothing here may fail a run: what cannot be read or written, or does not fit the file, is computed again. */
#include "base/cache.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { LARGE = 32 << 20, LONGEST_RECORD = PATH_MAX + 256, SETTLED_SECONDS = 3 };

const char *cache_folder(Arena *a) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/') return arena_printf(a, "%s/drpo", cache);
    return home && home[0] ? arena_printf(a, "%s/.cache/drpo", home) : NULL;
}

/* What follows the hash in the record of a file as it is now. */
static char *describe(const char *path, const struct stat *s, Arena *a) {
    return arena_printf(a, "%lld %lld %ld %llu %llu %s", (long long)s->st_size, (long long)s->st_mtim.tv_sec,
                        s->st_mtim.tv_nsec, (unsigned long long)s->st_ino, (unsigned long long)s->st_dev, path);
}

static bool is_hex(const char *text) { return strspn(text, "0123456789abcdef") == 64 && text[64] == ' '; }

static bool remembered(const char *record, const char *now, Arena *a, char hex[65]) {
    char *text;
    if (!file_exists(record) || file_read_text(record, LONGEST_RECORD, a, &text, NULL, NULL) < 0) return false;
    if (!is_hex(text) || strcmp(text + 65, now) != 0) return false;
    memcpy(hex, text, 64);
    hex[64] = 0;
    return true;
}

static void remember(const char *record, const char *now, const char *hex, const char *folder, Arena *a) {
    char *text = arena_printf(a, "%s %s", hex, now);
    if (text && dir_make(folder, NULL) == 0) (void)file_write_atomic(record, text, strlen(text), NULL);
}

static int hash_large(const char *path, const struct stat *before, Arena *a, char hex[65], Error *err) {
    char full[PATH_MAX], name[65];
    const char *folder = cache_folder(a), *hashes = folder ? path_join(a, folder, "hashes") : NULL;
    if (!hashes || !realpath(path, full)) return sha256_file(path, hex, err);
    sha256_hex(full, strlen(full), name);
    const char *record = path_join(a, hashes, name);
    const char *now = describe(full, before, a);
    if (!record || !now) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    if (remembered(record, now, a, hex)) return 0;
    TRY(sha256_file(path, hex, err));
    struct stat after;
    bool settled = time(NULL) - before->st_mtim.tv_sec >= SETTLED_SECONDS; /* else it may change and look the same */
    if (settled && stat(path, &after) == 0) {
        const char *then = describe(full, &after, a);
        if (then && strcmp(now, then) == 0) remember(record, now, hex, hashes, a);
    }
    return 0;
}

int cached_sha256(const char *path, char hex[65], Error *err) {
    struct stat info;
    if (stat(path, &info) != 0 || info.st_size < LARGE) return sha256_file(path, hex, err);
    Arena *a = arena_new();
    int code = a ? hash_large(path, &info, a, hex, err) : fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    arena_free(a);
    return code;
}
