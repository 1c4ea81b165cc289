/* Files: mapped reading, atomic writing. A reader of a path sees the old or the new content, never a part. */
#ifndef DRPO_BASE_FILE_H
#define DRPO_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct MappedFile {
    const uint8_t *data; /* read-only, NULL when size is 0 */
    size_t size;
} MappedFile;

int file_map(const char *path, MappedFile *out, Error *err);
void file_unmap(MappedFile *f);
/* Pages of a mapped file that lie wholly in this range leave the process's memory; reading them brings them back. */
void file_drop_pages(const void *data, size_t size);
/* Whole file with a terminating 0; text in the arena. Refuses more than `limit` bytes. */
int file_read_text(const char *path, size_t limit, Arena *a, char **text, size_t *size, Error *err);
/* Writes path.tmp.<pid>, fsyncs, renames, fsyncs the folder. On failure the temporary file is removed. */
int file_write_atomic(const char *path, const void *data, size_t size, Error *err);
/* The same in steps, for content that is produced piece by piece. */
typedef struct AtomicFile {
    FILE *stream;
    char path[1024], tmp[1088];
} AtomicFile;
int atomic_open(AtomicFile *f, const char *path, Error *err);
int atomic_write(AtomicFile *f, const void *data, size_t size, Error *err);
int atomic_commit(AtomicFile *f, Error *err); /* closes in every case */
void atomic_abort(AtomicFile *f);             /* no-op after commit */

int dir_make(const char *path, Error *err);   /* with parents; fine when it exists */
int dir_remove(const char *path, Error *err); /* recursively */
/* fsyncs every file of folder `tmp`, renames it to `path` (which must not exist) and fsyncs the parent. */
int dir_commit(const char *tmp, const char *path, Error *err);
/* Takes a folder for this process alone until dir_unlock or its end; DRPO_E_USAGE while another one has it. Leaves no
 * trace in the folder. *lock: -1 where the file system knows no locks, which refuses nobody. */
int dir_lock(const char *path, int *lock, Error *err);
void dir_unlock(int *lock); /* no-op at -1, which it sets */
/* Refuses when the disk that `path` lies on, or will, has fewer than `bytes` free. */
int disk_room(const char *path, size_t bytes, Error *err);
bool file_exists(const char *path);
bool dir_exists(const char *path);
char *path_join(Arena *a, const char *folder, const char *name);
void sha256_hex(const void *data, size_t size, char hex[65]);
/* The same of a file, read piece by piece: models are larger than what should be in memory at a time. */
int sha256_file(const char *path, char hex[65], Error *err);

#endif
