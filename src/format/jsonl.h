/* JSON lines: metrics and records, appended one whole line at a time. */
#ifndef DRPO_FORMAT_JSONL_H
#define DRPO_FORMAT_JSONL_H

#include <jansson.h>

#include "base/error.h"

typedef struct JsonlWriter {
    int fd;
    long long offset; /* bytes written so far, the file's size */
    char path[1024];
} JsonlWriter;

/* Creates or appends. `offset` >= 0: first cuts the file to that many bytes (a resumed run drops what its checkpoint
 * has not seen); -1: keeps all whole lines and drops a half-written last one. */
int jsonl_open(JsonlWriter *w, const char *path, long long offset, Error *err);
int jsonl_write(JsonlWriter *w, const json_t *value, Error *err);   /* one write() */
int jsonl_write_text(JsonlWriter *w, const char *line, Error *err); /* JSON text without a newline */
int jsonl_sync(JsonlWriter *w, Error *err);
void jsonl_close(JsonlWriter *w); /* fine after a failed open, and twice */

/* `value` is borrowed, `text` is the line as it stands in the file. A negative return stops the reading. */
typedef int (*JsonlEntry)(void *user, const json_t *value, const char *text, int line, Error *err);
/* Blank lines are skipped; messages begin with "path:line: ". */
int jsonl_read(const char *path, JsonlEntry entry, void *user, Error *err);

#endif
