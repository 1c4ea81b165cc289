/* Reading safetensors: 8 bytes of header length (little endian), a JSON header, then the data.
 *
 * Sorted by offset the tensors must cover the data exactly: tensor i begins where i - 1 ended, the last one ends with
 * the file. That one rule excludes overlaps, holes and anything out of range. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/safetensors_types.h"

enum { MAX_HEADER = 100000000 };

struct SafeFile {
    MappedFile map; /* empty for a file in memory */
    Arena *owned;   /* of another format's reader, NULL: none */
    char *path;
    json_t *header;         /* owns every name */
    const json_t *metadata; /* part of the header, NULL: none */
    SafeTensor *tensors;    /* by offset */
    const SafeTensor **by_name;
    size_t count;
};

/* Offsets, kept until all tensors are known. */
typedef struct Span {
    SafeTensor tensor;
    uint64_t begin, end;
} Span;

static int span_order(const void *a, const void *b) {
    const Span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name); /* empty tensors share their place */
}

static int name_order(const void *a, const void *b) {
    return strcmp((*(const SafeTensor *const *)a)->name, (*(const SafeTensor *const *)b)->name);
}

static int read_dtype(const char *path, const json_t *entry, SafeTensor *t, Error *err) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name) return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has no dtype", path, t->name);
    for (int i = 0; i < DT_COUNT; i++) {
        if (strcmp(name, SAFE_TYPES[i].name) != 0) continue;
        t->dtype = (DType)i;
        return 0;
    }
    return fail(err, DRPO_E_INPUT,
                "%s: tensor '%s' has the dtype '%.32s', which is not supported; convert the file to F32, F16 or BF16",
                path, t->name, name);
}

static int read_shape(const char *path, const json_t *entry, SafeTensor *t, Error *err) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has no shape", path, t->name);
    size_t rank = json_array_size(shape);
    if (rank > SAFE_MAX_RANK)
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has rank %zu, at most %d is supported", path, t->name, rank,
                    SAFE_MAX_RANK);
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has a shape that is not a list of sizes", path, t->name);
        t->dim[i] = json_integer_value(dim);
    }
    if (safe_tensor_bytes(t, &t->bytes)) return 0;
    return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has a shape too large to be true", path, t->name);
}

static int read_span(const char *path, const char *name, const json_t *entry, uint64_t data_size, Span *span,
                     Error *err) {
    SafeTensor *t = &span->tensor;
    t->name = name;
    if (!json_is_object(entry))
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is not described by an object", path, name);
    TRY(read_dtype(path, entry, t, err));
    TRY(read_shape(path, entry, t, err));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0)
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has no pair of data_offsets", path, name);
    span->begin = (uint64_t)json_integer_value(begin);
    span->end = (uint64_t)json_integer_value(end);
    if (json_integer_value(end) < json_integer_value(begin))
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' ends before it begins", path, name);
    if (span->end > data_size)
        return fail(err, DRPO_E_INPUT,
                    "%s: tensor '%s' ends at byte %" PRIu64 " of %" PRIu64 "; the file is cut off, fetch it again",
                    path, name, span->end, data_size);
    if (span->end - span->begin != t->bytes)
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' takes %" PRIu64 " bytes, its shape and dtype need %zu", path,
                    name, span->end - span->begin, t->bytes);
    return 0;
}

static int check_cover(const char *path, Span *spans, size_t n, uint64_t data_size, Error *err) {
    qsort(spans, n, sizeof *spans, span_order);
    uint64_t covered = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = spans[i].tensor.name;
        if (spans[i].begin < covered)
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' overlaps tensor '%s'", path, name,
                        spans[i - 1].tensor.name);
        if (spans[i].begin > covered)
            return fail(err, DRPO_E_INPUT, "%s: %" PRIu64 " unused bytes before tensor '%s'", path,
                        spans[i].begin - covered, name);
        covered = spans[i].end;
    }
    if (covered == data_size) return 0;
    return fail(err, DRPO_E_INPUT, "%s: %" PRIu64 " unused bytes after the last tensor%s%s", path, data_size - covered,
                n ? " " : "", n ? spans[n - 1].tensor.name : "");
}

static int read_metadata(SafeFile *f, Error *err) {
    f->metadata = json_object_get(f->header, "__metadata__");
    if (!f->metadata) return 0;
    if (!json_is_object(f->metadata)) return fail(err, DRPO_E_INPUT, "%s: __metadata__ is not an object", f->path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)f->metadata, key, value) {
        if (!json_is_string(value)) return fail(err, DRPO_E_INPUT, "%s: metadata '%s' is not a text", f->path, key);
    }
    return 0;
}

static int allocate_index(SafeFile *f, Error *err) {
    f->tensors = calloc(f->count + 1, sizeof *f->tensors);
    f->by_name = calloc(f->count + 1, sizeof(SafeTensor *));
    if (!f->tensors || !f->by_name) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its index", f->path);
    return 0;
}

static void sort_names(SafeFile *f) {
    for (size_t i = 0; i < f->count; i++) f->by_name[i] = &f->tensors[i];
    qsort(f->by_name, f->count, sizeof *f->by_name, name_order);
}

/* Fills tensors and by_name from the checked spans. */
static int index_tensors(SafeFile *f, const Span *spans, const uint8_t *data, Error *err) {
    TRY(allocate_index(f, err));
    for (size_t i = 0; i < f->count; i++) {
        f->tensors[i] = spans[i].tensor;
        f->tensors[i].data = data + spans[i].begin;
    }
    sort_names(f);
    return 0;
}

static int read_tensors(SafeFile *f, const uint8_t *data, uint64_t data_size, Error *err) {
    TRY(read_metadata(f, err));
    size_t n = json_object_size(f->header) - (f->metadata ? 1 : 0);
    Span *spans = calloc(n + 1, sizeof *spans);
    if (!spans) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its index", f->path);
    int code = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(f->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        code = read_span(f->path, name, entry, data_size, &spans[f->count++], err);
        if (code < 0) break;
    }
    if (code == 0) code = check_cover(f->path, spans, n, data_size, err);
    if (code == 0) code = index_tensors(f, spans, data, err);
    free(spans);
    return code;
}

static int check_start(const char *path, const uint8_t *bytes, size_t size, uint64_t *header, Error *err) {
    static const char pointer[] = "version https://git-lfs";
    if (size >= sizeof pointer - 1 && memcmp(bytes, pointer, sizeof pointer - 1) == 0)
        return fail(err, DRPO_E_INPUT,
                    "%s: is a git-lfs pointer, not the weights; run 'git lfs pull' in its repository", path);
    if (size < 8) return fail(err, DRPO_E_INPUT, "%s: %zu bytes are too few for a safetensors file", path, size);
    *header = 0;
    for (int i = 7; i >= 0; i--) *header = *header << 8 | bytes[i];
    if (*header > MAX_HEADER)
        return fail(err, DRPO_E_INPUT, "%s: header of %" PRIu64 " bytes (at most %d); this is no safetensors file",
                    path, *header, MAX_HEADER);
    if (*header > size - 8)
        return fail(err, DRPO_E_INPUT,
                    "%s: header of %" PRIu64 " bytes in a file of %zu; the file is cut off, fetch it again", path,
                    *header, size);
    return 0;
}

static int parse(SafeFile *f, const uint8_t *bytes, size_t size, Error *err) {
    uint64_t header = 0;
    TRY(check_start(f->path, bytes, size, &header, err));
    char where[1100];
    snprintf(where, sizeof where, "%s: header", f->path);
    TRY(json_load_text(where, (const char *)bytes + 8, (size_t)header, &f->header, err));
    if (!json_is_object(f->header)) return fail(err, DRPO_E_INPUT, "%s: the header is not a JSON object", f->path);
    return read_tensors(f, bytes + 8 + header, size - 8 - header, err);
}

static SafeFile *file_new(const char *name, Error *err) {
    SafeFile *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(name);
    if (f && f->path) return f;
    safetensors_close(f);
    fail(err, DRPO_E_MEMORY, "%s: not enough memory to open it", name);
    return NULL;
}

int safetensors_open_memory(const char *name, const void *data, size_t size, SafeFile **out, Error *err) {
    *out = NULL;
    SafeFile *f = file_new(name, err);
    if (!f) return DRPO_E_MEMORY;
    int code = parse(f, data, size, err);
    if (code < 0) {
        safetensors_close(f);
        return code;
    }
    *out = f;
    return 0;
}

int safetensors_open(const char *path, SafeFile **out, Error *err) {
    *out = NULL;
    MappedFile map;
    TRY(file_map(path, &map, err));
    int code = safetensors_open_memory(path, map.data, map.size, out, err);
    if (code < 0)
        file_unmap(&map);
    else
        (*out)->map = map;
    return code;
}

/* ---- tensors of another format ---- */

static int fill_from(SafeFile *f, const SafeTensor *tensor, size_t n, Error *err) {
    f->count = n;
    TRY(allocate_index(f, err));
    if (n) memcpy(f->tensors, tensor, n * sizeof *tensor);
    sort_names(f);
    for (size_t i = 1; i < n; i++)
        if (name_order(&f->by_name[i - 1], &f->by_name[i]) == 0)
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is there twice", f->path, f->by_name[i]->name);
    return 0;
}

int safe_file_from(const char *path, const SafeTensor *tensor, size_t n, Arena *owned, SafeFile **out, Error *err) {
    *out = NULL;
    SafeFile *f = file_new(path, err);
    if (!f) {
        arena_free(owned);
        return DRPO_E_MEMORY;
    }
    f->owned = owned;
    int code = fill_from(f, tensor, n, err);
    if (code == 0)
        *out = f;
    else
        safetensors_close(f);
    return code;
}

void safe_file_keep(SafeFile *f, MappedFile map) { f->map = map; }

void safetensors_close(SafeFile *f) {
    if (!f) return;
    arena_free(f->owned);
    json_decref(f->header);
    free(f->tensors);
    free(f->by_name);
    free(f->path);
    file_unmap(&f->map);
    free(f);
}

bool safetensors_maps(const SafeFile *f, const void *data) {
    const uint8_t *at = data;
    return f->map.data && at >= f->map.data && at < f->map.data + f->map.size;
}

const char *safetensors_path(const SafeFile *f) { return f->path; }

size_t safetensors_count(const SafeFile *f) { return f->count; }

const SafeTensor *safetensors_at(const SafeFile *f, size_t i) { return i < f->count ? &f->tensors[i] : NULL; }

const SafeTensor *safetensors_find(const SafeFile *f, const char *name) {
    SafeTensor wanted = {.name = name};
    const SafeTensor *key = &wanted;
    const SafeTensor **found = bsearch(&key, f->by_name, f->count, sizeof *f->by_name, name_order);
    return found ? *found : NULL;
}

const char *safetensors_metadata(const SafeFile *f, const char *key) {
    return json_string_value(json_object_get(f->metadata, key));
}

size_t safetensors_metadata_count(const SafeFile *f) { return json_object_size(f->metadata); }

TextPair safetensors_metadata_at(const SafeFile *f, size_t i) {
    TextPair pair = {NULL, NULL};
    const char *key;
    json_t *value;
    if (!f->metadata) return pair;
    json_object_foreach((json_t *)f->metadata, key, value) {
        if (i-- == 0) return (TextPair){key, json_string_value(value)};
    }
    return pair;
}
