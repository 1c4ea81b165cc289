/* JSON lines: every line goes out in one write() on an append-only file, so lines of one file never mix or tear. */
#include "format/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "format/json.h"

/* Bytes up to and including the last newline of the first `size` bytes, -1 with errno on failure. */
static long long whole_lines(int fd, long long size) {
    char chunk[4096];
    while (size > 0) {
        long long from = size > (long long)sizeof chunk ? size - (long long)sizeof chunk : 0;
        ssize_t got = pread(fd, chunk, (size_t)(size - from), from);
        if (got < 0) return -1;
        for (ssize_t i = got; i > 0; i--)
            if (chunk[i - 1] == '\n') return from + i;
        size = from;
    }
    return 0;
}

static int cut(JsonlWriter *w, long long offset, Error *err) {
    struct stat info;
    if (fstat(w->fd, &info) != 0) return fail_errno(err, DRPO_E_IO, "%s: cannot read its size", w->path);
    if (offset > info.st_size)
        return fail(err, DRPO_E_INPUT, "%s: %lld bytes, but the checkpoint has seen %lld; the file was cut or replaced",
                    w->path, (long long)info.st_size, offset);
    w->offset = offset >= 0 ? offset : whole_lines(w->fd, info.st_size);
    if (w->offset < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot read", w->path);
    if (w->offset < info.st_size && ftruncate(w->fd, w->offset) != 0)
        return fail_errno(err, DRPO_E_IO, "%s: cannot cut to %lld bytes", w->path, w->offset);
    return 0;
}

int jsonl_open(JsonlWriter *w, const char *path, long long offset, Error *err) {
    *w = (JsonlWriter){.fd = -1};
    if (strlen(path) >= sizeof w->path) return fail(err, DRPO_E_INPUT, "%.80s...: the path is too long", path);
    strcpy(w->path, path);
    w->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (w->fd < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot open for writing", path);
    int code = cut(w, offset, err);
    if (code < 0) jsonl_close(w);
    return code;
}

static int write_line(JsonlWriter *w, const char *line, size_t size, Error *err) {
    if (w->fd < 0) return fail(err, DRPO_E_INTERNAL, "%s: written after it was closed", w->path);
    ssize_t done;
    do done = write(w->fd, line, size);
    while (done < 0 && errno == EINTR);
    if (done == (ssize_t)size) {
        w->offset += done;
        return 0;
    }
    if (done >= 0) errno = ENOSPC; /* a short write on a regular file */
    fail_errno(err, DRPO_E_IO, "%s: cannot write", w->path);
    /* The part that did get out would spoil the next line; jsonl_open repairs it where this cannot. */
    if (done > 0 && ftruncate(w->fd, w->offset) != 0) jsonl_close(w);
    return DRPO_E_IO;
}

int jsonl_write_text(JsonlWriter *w, const char *line, Error *err) {
    size_t length = strlen(line);
    if (memchr(line, '\n', length)) return fail(err, DRPO_E_INTERNAL, "%s: a line must not hold a newline", w->path);
    char *copy = malloc(length + 1);
    if (!copy) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for a line", w->path);
    memcpy(copy, line, length);
    copy[length] = '\n';
    int code = write_line(w, copy, length + 1, err);
    free(copy);
    return code;
}

int jsonl_write(JsonlWriter *w, const json_t *value, Error *err) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (!text) return fail(err, DRPO_E_MEMORY, "%s: a line cannot be put together", w->path);
    int code = jsonl_write_text(w, text, err);
    free(text);
    return code;
}

int jsonl_sync(JsonlWriter *w, Error *err) {
    if (w->fd < 0 || fdatasync(w->fd) == 0 || errno == EINVAL) return 0;
    return fail_errno(err, DRPO_E_IO, "%s: cannot write to disk", w->path);
}

void jsonl_close(JsonlWriter *w) {
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
}

static int read_line(const char *path, char *text, size_t length, int line, JsonlEntry entry, void *user, Error *err) {
    if (length > 0 && text[length - 1] == '\r') text[--length] = 0;
    if (strspn(text, " \t\r") == length) return 0;
    json_error_t where;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!value)
        return fail(err, DRPO_E_INPUT, "%s:%d: column %d: not valid JSON: %s", path, line, where.column, where.text);
    int code = entry(user, value, text, line, err);
    json_decref(value);
    return code < 0 ? fail_in(err, "%s:%d", path, line) : 0;
}

int jsonl_read(const char *path, JsonlEntry entry, void *user, Error *err) {
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "%s: not enough memory to read it", path);
    char *text = NULL;
    size_t size = 0;
    int code = file_read_text(path, (size_t)1 << 30, a, &text, &size, err);
    int line = 1;
    for (size_t begin = 0; code == 0 && begin < size; line++) {
        char *newline = memchr(text + begin, '\n', size - begin);
        size_t end = newline ? (size_t)(newline - text) : size;
        text[end] = 0; /* the byte behind the text belongs to us as well */
        code = read_line(path, text + begin, end - begin, line, entry, user, err);
        begin = end + 1;
    }
    arena_free(a);
    return code;
}
