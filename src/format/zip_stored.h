/* Zip archives whose entries are stored as they are, as torch.save writes them: a directory into the mapped bytes.
 *
 * Every entry that is handed out lies inside the file. Compressed or encrypted entries are refused. Zip64 is read. */
#ifndef DRPO_FORMAT_ZIP_STORED_H
#define DRPO_FORMAT_ZIP_STORED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct ZipEntry {
    const char *name;    /* in the arena */
    const uint8_t *data; /* in the file */
    size_t size;
} ZipEntry;

typedef struct ZipStored {
    ZipEntry *entry; /* [count], sorted by name */
    size_t count;
} ZipStored;

bool zip_is(const void *data, size_t size); /* begins as a zip archive does */
/* `name` is for messages; the directory lives in the arena, `data` must outlive it. */
int zip_stored_read(const char *name, const void *data, size_t size, Arena *a, ZipStored *out, Error *err);
const ZipEntry *zip_stored_find(const ZipStored *z, const char *name); /* NULL: no such entry */

#endif
