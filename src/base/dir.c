/* Folders: making, removing, locking, and committing one as a whole (a checkpoint is there completely or not at all).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

int dir_make(const char *path, Error *err) {
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial)
        return fail(err, DRPO_E_INPUT, "'%.80s': not a usable folder name", path);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != 0) continue;
        char kept = partial[i];
        partial[i] = 0;
        if (mkdir(partial, 0777) != 0 && !(errno == EEXIST && dir_exists(partial))) {
            if (errno == EEXIST) return fail(err, DRPO_E_IO, "%s: exists and is not a folder", partial);
            return fail_errno(err, DRPO_E_IO, "%s: cannot make the folder", partial);
        }
        partial[i] = kept;
    }
    return 0;
}

typedef int (*EntryVisit)(const char *path, bool is_dir, Error *err);

/* Calls `visit` for everything below `path`, contents before their folder; symbolic links are not followed. */
static int walk(const char *path, EntryVisit visit, Error *err) {
    DIR *dir = opendir(path);
    if (!dir) return fail_errno(err, DRPO_E_IO, "%s: cannot read the folder", path);
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char child[PATH_MAX];
        struct stat info;
        if ((size_t)snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= sizeof child)
            result = fail(err, DRPO_E_IO, "%s: a path in it is too long", path);
        else if (lstat(child, &info) != 0)
            result = fail_errno(err, DRPO_E_IO, "%s: cannot read", child);
        else if (S_ISDIR(info.st_mode))
            result = walk(child, visit, err);
        else
            result = visit(child, false, err);
    }
    closedir(dir);
    return result < 0 ? result : visit(path, true, err);
}

static int remove_entry(const char *path, bool is_dir, Error *err) {
    if ((is_dir ? rmdir(path) : unlink(path)) == 0 || errno == ENOENT) return 0;
    return fail_errno(err, DRPO_E_IO, "%s: cannot remove", path);
}

int dir_remove(const char *path, Error *err) {
    struct stat info;
    if (lstat(path, &info) != 0 && errno == ENOENT) return 0;
    if (!dir_exists(path)) return fail(err, DRPO_E_INPUT, "%s: is not a folder", path);
    return walk(path, remove_entry, err);
}

static int sync_entry(const char *path, bool is_dir, Error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | (is_dir ? O_DIRECTORY : 0));
    if (fd < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot open", path);
    int bad = fsync(fd) != 0 && errno != EINVAL && errno != EROFS;
    if (bad) fail_errno(err, DRPO_E_IO, "%s: cannot write to disk", path);
    close(fd);
    return bad ? DRPO_E_IO : 0;
}

int dir_commit(const char *tmp, const char *path, Error *err) {
    struct stat info;
    if (lstat(path, &info) == 0)
        return fail(err, DRPO_E_IO, "%s: exists already; choose another folder or remove it", path);
    TRY(walk(tmp, sync_entry, err));
    if (rename(tmp, path) != 0) return fail_errno(err, DRPO_E_IO, "%s: cannot rename to %s", tmp, path);

    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    size_t length = strlen(parent);
    while (length > 1 && parent[length - 1] == '/') parent[--length] = 0;
    char *slash = strrchr(parent, '/');
    if (!slash) return sync_entry(".", true, err);
    slash[slash == parent ? 1 : 0] = 0;
    return sync_entry(parent, true, err);
}

int dir_lock(const char *path, int *lock, Error *err) {
    *lock = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (*lock < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot open the folder", path);
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return 0;
    bool taken = errno == EWOULDBLOCK;
    dir_unlock(lock);
    if (!taken) return 0;
    return fail(err, DRPO_E_USAGE, "%s: another drpo works in this folder; wait for its end or choose another --out",
                path);
}

void dir_unlock(int *lock) {
    if (*lock >= 0) close(*lock);
    *lock = -1;
}

int disk_room(const char *path, size_t bytes, Error *err) {
    char there[PATH_MAX];
    struct statvfs disk;
    snprintf(there, sizeof there, "%s", path);
    while (statvfs(there, &disk) != 0) { /* the nearest folder above that exists */
        char *slash = strrchr(there, '/');
        if (errno != ENOENT || strcmp(there, ".") == 0 || strcmp(there, "/") == 0)
            return fail_errno(err, DRPO_E_IO, "%s: cannot tell how much room is there", path);
        if (!slash || slash == there)
            strcpy(there, slash ? "/" : ".");
        else
            *slash = 0;
    }
    const double gib = 1073741824.0, room = (double)disk.f_bavail * (double)disk.f_frsize;
    if (room >= (double)bytes) return 0;
    return fail(err, DRPO_E_INPUT, "%s: %.2f GiB are needed there, the disk has %.2f GiB free", path,
                (double)bytes / gib, room / gib);
}
