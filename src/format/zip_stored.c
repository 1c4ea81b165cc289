/* Reading a zip archive's central directory (APPNOTE 6.3): end record, its zip64 form, one header per entry. */
#include "format/zip_stored.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    HEADER_SIZE = 46,
    LOCAL_SIZE = 30,
    COMMENT_MAX = 65535,
    ENTRIES_MAX = 1 << 20
};

typedef struct Zip {
    const char *name;
    const uint8_t *data;
    size_t size;
    Arena *arena;
    uint64_t directory, directory_size, count;
} Zip;

static uint64_t little(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static bool inside(const Zip *z, uint64_t at, uint64_t bytes) { return at <= z->size && bytes <= z->size - at; }

static bool signed_as(const Zip *z, uint64_t at, uint64_t bytes, const char *mark) {
    return inside(z, at, bytes) && memcmp(z->data + at, mark, 4) == 0;
}

bool zip_is(const void *data, size_t size) { return size >= 4 && memcmp(data, "PK\3\4", 4) == 0; }

static int damaged(const Zip *z, const char *what, Error *err) {
    return fail(err, DRPO_E_INPUT, "%s: %s; the file is damaged or cut off, fetch it again", z->name, what);
}

/* ---- where the directory is ---- */

static int find_end(const Zip *z, size_t *at, Error *err) {
    const size_t lowest = z->size > END_SIZE + COMMENT_MAX ? z->size - END_SIZE - COMMENT_MAX : 0;
    for (size_t i = z->size; i >= lowest + END_SIZE; i--) {
        const size_t start = i - END_SIZE;
        if (!signed_as(z, start, END_SIZE, "PK\5\6")) continue;
        if (start + END_SIZE + little(z->data + start + 20, 2) != z->size) continue; /* the comment ends the file */
        *at = start;
        return 0;
    }
    return damaged(z, "the zip archive has no end record", err);
}

static int read_end(Zip *z, Error *err) {
    size_t at = 0;
    TRY(find_end(z, &at, err));
    const uint8_t *end = z->data + at;
    z->count = little(end + 10, 2);
    z->directory_size = little(end + 12, 4);
    z->directory = little(end + 16, 4);
    if (at >= LOCATOR_SIZE && signed_as(z, at - LOCATOR_SIZE, LOCATOR_SIZE, "PK\6\7")) {
        const uint64_t end64 = little(z->data + at - LOCATOR_SIZE + 8, 8);
        if (!signed_as(z, end64, END64_SIZE, "PK\6\6")) return damaged(z, "the zip64 end record is missing", err);
        z->count = little(z->data + end64 + 32, 8);
        z->directory_size = little(z->data + end64 + 40, 8);
        z->directory = little(z->data + end64 + 48, 8);
    }
    if (!inside(z, z->directory, z->directory_size)) return damaged(z, "the zip directory lies outside the file", err);
    if (z->count > ENTRIES_MAX || z->count > z->directory_size / HEADER_SIZE)
        return damaged(z, "the zip directory has more entries than room for them", err);
    return 0;
}

/* ---- entries ---- */

typedef struct Header {
    uint64_t packed, size, local;
    const uint8_t *name, *extra;
    size_t name_length, extra_length, total;
} Header;

/* Replaces sizes and place that are all ones by those of the zip64 field. */
static bool widen(Header *h) {
    uint64_t *value[] = {&h->size, &h->packed, &h->local};
    for (size_t at = 0; at + 4 <= h->extra_length;) {
        const size_t length = little(h->extra + at + 2, 2), begin = at + 4;
        if (length > h->extra_length - begin) return true; /* not ours to judge */
        size_t used = 0;
        for (int i = 0; little(h->extra + at, 2) == 1 && i < 3; i++) {
            if (*value[i] != UINT32_MAX) continue;
            if (used + 8 > length) return false;
            *value[i] = little(h->extra + begin + used, 8);
            used += 8;
        }
        if (used) return true;
        at = begin + length;
    }
    return true;
}

static int read_header(const Zip *z, uint64_t at, Header *h, Error *err) {
    if (!signed_as(z, at, HEADER_SIZE, "PK\1\2")) return damaged(z, "a header of the zip directory is missing", err);
    const uint8_t *p = z->data + at;
    h->packed = little(p + 20, 4);
    h->size = little(p + 24, 4);
    h->local = little(p + 42, 4);
    h->name_length = little(p + 28, 2);
    h->extra_length = little(p + 30, 2);
    h->total = HEADER_SIZE + h->name_length + h->extra_length + little(p + 32, 2);
    h->name = p + HEADER_SIZE;
    h->extra = h->name + h->name_length;
    if (!inside(z, at, h->total) || !widen(h)) return damaged(z, "a header of the zip directory is cut off", err);
    if (little(p + 8, 2) & 1) return fail(err, DRPO_E_INPUT, "%s: the zip archive is encrypted", z->name);
    if (little(p + 10, 2) != 0 || h->packed != h->size)
        return fail(err, DRPO_E_INPUT, "%s: the zip archive is compressed; torch.save stores without compression",
                    z->name);
    return 0;
}

static int read_entry(const Zip *z, const Header *h, ZipEntry *out, Error *err) {
    if (!signed_as(z, h->local, LOCAL_SIZE, "PK\3\4")) return damaged(z, "an entry of the zip archive is missing", err);
    const uint64_t at = h->local + LOCAL_SIZE + little(z->data + h->local + 26, 2) + little(z->data + h->local + 28, 2);
    if (!inside(z, at, h->size)) return damaged(z, "an entry of the zip archive lies outside the file", err);
    if (memchr(h->name, 0, h->name_length)) return damaged(z, "a name in the zip directory has a zero in it", err);
    char *name = arena_alloc(z->arena, h->name_length + 1);
    if (!name) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its directory", z->name);
    memcpy(name, h->name, h->name_length);
    *out = (ZipEntry){name, z->data + at, (size_t)h->size};
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ZipEntry *)a)->name, ((const ZipEntry *)b)->name);
}

int zip_stored_read(const char *name, const void *data, size_t size, Arena *a, ZipStored *out, Error *err) {
    *out = (ZipStored){0};
    Zip z = {.name = name, .data = data, .size = size, .arena = a};
    TRY(read_end(&z, err));
    out->entry = arena_alloc(a, (size_t)z.count * sizeof *out->entry);
    if (!out->entry) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its directory", name);
    uint64_t at = z.directory;
    for (uint64_t i = 0; i < z.count; i++) {
        Header h = {0};
        TRY(read_header(&z, at, &h, err));
        TRY(read_entry(&z, &h, &out->entry[out->count++], err));
        at += h.total;
    }
    qsort(out->entry, out->count, sizeof *out->entry, by_name);
    for (size_t i = 1; i < out->count; i++)
        if (by_name(&out->entry[i - 1], &out->entry[i]) == 0)
            return fail(err, DRPO_E_INPUT, "%s: '%.200s' is in the zip archive twice", name, out->entry[i].name);
    return 0;
}

const ZipEntry *zip_stored_find(const ZipStored *z, const char *name) {
    const ZipEntry key = {.name = name};
    return bsearch(&key, z->entry, z->count, sizeof key, by_name);
}
