/* Files: mapped reading and atomic writing.
 *
 * A new content goes to a temporary neighbour, reaches the disk, and only then takes the final name; whoever reads the
 * path, or looks after a crash or a full disk, finds the old content or the new one. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_regular(const char *path, size_t *size, Error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, DRPO_E_INPUT, "%s: cannot open", path);
    struct stat info;
    if (fstat(fd, &info) != 0) {
        close(fd);
        return fail_errno(err, DRPO_E_IO, "%s: cannot read its size", path);
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return fail(err, DRPO_E_INPUT, "%s: is %s, a file is needed", path,
                    S_ISDIR(info.st_mode) ? "a folder" : "not a file");
    }
    *size = (size_t)info.st_size;
    return fd;
}

int file_map(const char *path, MappedFile *out, Error *err) {
    *out = (MappedFile){0};
    int fd = open_regular(path, &out->size, err);
    TRY(fd);
    if (out->size > 0) {
        void *data = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            fail_errno(err, DRPO_E_IO, "%s: cannot map %zu bytes", path, out->size);
            close(fd);
            *out = (MappedFile){0};
            return DRPO_E_IO;
        }
        out->data = data;
    }
    close(fd);
    return 0;
}

void file_unmap(MappedFile *f) {
    if (f->data) munmap((void *)f->data, f->size);
    *f = (MappedFile){0};
}

void file_drop_pages(const void *data, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)data;
    const uintptr_t from = (start + page - 1) / page * page, to = (start + size) / page * page;
    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED); /* advice: failing is harmless */
}

/* Reads until `size` bytes or the end of the file; returns how many, or -1 with errno. */
static ssize_t read_fully(int fd, char *buffer, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(fd, buffer + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int file_read_text(const char *path, size_t limit, Arena *a, char **text, size_t *size, Error *err) {
    size_t bytes = 0;
    int fd = open_regular(path, &bytes, err);
    TRY(fd);
    if (bytes > limit) {
        close(fd);
        return fail(err, DRPO_E_INPUT, "%s: %zu bytes, at most %zu are accepted here", path, bytes, limit);
    }
    char *buffer = arena_alloc(a, bytes + 1);
    if (!buffer) {
        close(fd);
        return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its %zu bytes", path, bytes);
    }
    ssize_t got = read_fully(fd, buffer, bytes);
    if (got < 0) fail_errno(err, DRPO_E_IO, "%s: cannot read", path);
    close(fd);
    if (got < 0) return DRPO_E_IO;
    buffer[got] = 0;
    *text = buffer;
    if (size) *size = (size_t)got;
    return 0;
}

int file_write_atomic(const char *path, const void *data, size_t size, Error *err) {
    AtomicFile f;
    TRY(atomic_open(&f, path, err));
    TRY(atomic_write(&f, data, size, err)); /* aborts by itself */
    return atomic_commit(&f, err);
}

int atomic_open(AtomicFile *f, const char *path, Error *err) {
    memset(f, 0, sizeof *f);
    if (strlen(path) >= sizeof f->path) return fail(err, DRPO_E_INPUT, "%.80s...: the path is too long", path);
    strcpy(f->path, path);
    snprintf(f->tmp, sizeof f->tmp, "%s.tmp.%ld", path, (long)getpid());
    f->stream = fopen(f->tmp, "wbe");
    if (!f->stream) return fail_errno(err, DRPO_E_IO, "%s: cannot create", path);
    return 0;
}

int atomic_write(AtomicFile *f, const void *data, size_t size, Error *err) {
    if (!f->stream) return fail(err, DRPO_E_INTERNAL, "%s: written after it was closed", f->path);
    if (size == 0 || fwrite(data, 1, size, f->stream) == size) return 0;
    fail_errno(err, DRPO_E_IO, "%s: cannot write", f->path);
    atomic_abort(f);
    return DRPO_E_IO;
}

/* Makes a rename or a new name in the folder of `path` durable. */
static int sync_parent(const char *path, Error *err) {
    char copy[PATH_MAX];
    if (strlen(path) >= sizeof copy) return 0;
    strcpy(copy, path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot open its folder", path);
    /* Some file systems refuse to sync a folder (EINVAL); the rename itself has been done. */
    int bad = fsync(fd) != 0 && errno != EINVAL && errno != EROFS;
    if (bad) fail_errno(err, DRPO_E_IO, "%s: cannot sync its folder", path);
    close(fd);
    return bad ? DRPO_E_IO : 0;
}

int atomic_commit(AtomicFile *f, Error *err) {
    if (!f->stream) return fail(err, DRPO_E_INTERNAL, "%s: committed after it was closed", f->path);
    if (fflush(f->stream) != 0 || fsync(fileno(f->stream)) != 0) {
        fail_errno(err, DRPO_E_IO, "%s: cannot write", f->path);
        atomic_abort(f);
        return DRPO_E_IO;
    }
    int closed = fclose(f->stream);
    f->stream = NULL;
    if (closed != 0 || rename(f->tmp, f->path) != 0) {
        fail_errno(err, DRPO_E_IO, "%s: cannot write", f->path);
        unlink(f->tmp);
        return DRPO_E_IO;
    }
    return sync_parent(f->path, err);
}

void atomic_abort(AtomicFile *f) {
    if (!f->stream) return;
    fclose(f->stream);
    f->stream = NULL;
    unlink(f->tmp);
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool dir_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *path_join(Arena *a, const char *folder, const char *name) {
    if (name[0] == '/' || folder[0] == 0) return arena_strdup(a, name);
    size_t length = strlen(folder);
    return arena_printf(a, "%s%s%s", folder, folder[length - 1] == '/' ? "" : "/", name);
}
