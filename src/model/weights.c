/* Weights: mapped safetensors files and a record of who asked for what. A network whose builder and file disagree in
 * one name or one shape is refused before anything is computed. */
#include "model/weights.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cache.h"
#include "engine/backend.h"
#include "format/safetensors.h"

enum { MOST_BLANK = 8192, NAME_LENGTH = 256, LINE_LENGTH = 65 + 2 + NAME_MAX + 1 };

typedef struct Entry {
    const SafeTensor *tensor;
    Param param;
    bool asked;
} Entry;

struct Weights {
    WeightsParts parts;
    Entry *entry; /* sorted by name */
    size_t count;
    char **ignored; /* prefixes */
    int n_ignored;
    char mistake[768];
    bool stored, precise, trainable;
    bool blank; /* entries stand in the order in which they were asked for */
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->tensor->name, ((const Entry *)b)->tensor->name);
}

static int name_against_entry(const void *name, const void *entry) {
    return strcmp(name, ((const Entry *)entry)->tensor->name);
}

static Entry *entry_find(const Weights *w, const char *name) {
    for (size_t i = 0; w->blank && i < w->count; i++)
        if (strcmp(w->entry[i].tensor->name, name) == 0) return &w->entry[i];
    if (w->blank) return NULL;
    return bsearch(name, w->entry, w->count, sizeof *w->entry, name_against_entry);
}

static void remember(Weights *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void remember(Weights *w, const char *format, ...) {
    if (w->mistake[0]) return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->mistake, sizeof w->mistake, format, args);
    va_end(args);
}

static int fill_entries(Weights *w, Error *err) {
    w->count = w->parts.count;
    w->entry = calloc(w->count ? w->count : 1, sizeof *w->entry);
    if (!w->entry) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its list of tensors", w->parts.path);
    for (size_t i = 0; i < w->count; i++) w->entry[i].tensor = &w->parts.tensor[i];
    qsort(w->entry, w->count, sizeof *w->entry, by_name);
    for (size_t i = 1; i < w->count; i++)
        if (by_name(&w->entry[i - 1], &w->entry[i]) == 0)
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is there twice", w->parts.path, w->entry[i].tensor->name);
    return 0;
}

static void parts_free(const WeightsParts *parts) {
    for (int i = 0; i < parts->files; i++) safetensors_close(parts->file[i]);
    arena_free(parts->arena); /* owns the list of files */
}

int weights_from(const WeightsParts *parts, int code, Weights **out, Error *err) {
    *out = NULL;
    Weights *w = code < 0 ? NULL : calloc(1, sizeof *w);
    if (!w) {
        parts_free(parts);
        return code < 0 ? code : fail(err, DRPO_E_MEMORY, "out of memory for weights");
    }
    w->parts = *parts;
    code = fill_entries(w, err);
    if (code < 0) {
        weights_free(w);
        return code;
    }
    *out = w;
    return 0;
}

int weights_blank(const char *path, Weights **out, Error *err) {
    *out = NULL;
    WeightsParts parts = {.arena = arena_new()};
    parts.path = parts.arena ? arena_strdup(parts.arena, path) : NULL;
    parts.tensor = parts.arena ? arena_alloc(parts.arena, MOST_BLANK * sizeof *parts.tensor) : NULL;
    const bool there = parts.path && parts.tensor;
    Weights *w;
    TRY(weights_from(&parts, there ? 0 : fail(err, DRPO_E_MEMORY, "%s: out of memory", path), &w, err));
    Entry *room = realloc(w->entry, MOST_BLANK * sizeof *room);
    if (!room) {
        weights_free(w);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    }
    memset(room, 0, MOST_BLANK * sizeof *room);
    w->entry = room;
    w->blank = true;
    *out = w;
    return 0;
}

void weights_free(Weights *w) {
    if (!w) return;
    for (int i = 0; i < w->n_ignored; i++) free(w->ignored[i]);
    free(w->ignored);
    free(w->entry);
    parts_free(&w->parts);
    free(w);
}

static bool is_float(DType t) { return t == DT_F32 || t == DT_F16 || t == DT_BF16 || t == DT_F64; }

/* The tensor's shape, or rank -1 where it has too many dimensions. */
static Shape tensor_shape(const SafeTensor *t) {
    Shape s = {.rank = t->rank <= MAX_RANK ? t->rank : -1};
    for (int i = 0; i < s.rank; i++) s.dim[i] = t->dim[i];
    return s;
}

static Shape matrix_shape(const SafeTensor *t) {
    int64_t columns = 1;
    for (int i = 1; i < t->rank; i++) columns *= t->dim[i];
    return t->rank < 1 ? (Shape){0} : shape2(t->dim[0], columns);
}

/* In a file; else a reader has made the values. */
static bool is_mapped(const Weights *w, const void *data) {
    for (int i = 0; i < w->parts.files; i++)
        if (safetensors_maps(w->parts.file[i], data)) return true;
    return false;
}

/* NULL: there is no room, which is remembered. */
static Entry *invent(Weights *w, const char *name, Shape shape) {
    const char *copy = w->count < MOST_BLANK ? arena_strdup(w->parts.arena, name) : NULL;
    if (!copy) {
        remember(w, "%s: out of memory after %zu tensors", weights_path(w), w->count);
        return NULL;
    }
    SafeTensor *t = &w->parts.tensor[w->count];
    *t = (SafeTensor){.name = copy, .dtype = DT_F16, .rank = shape.rank};
    for (int i = 0; i < shape.rank; i++) t->dim[i] = shape.dim[i];
    t->bytes = (size_t)shape_count(shape) * dtype_bytes(t->dtype);
    w->entry[w->count].tensor = t;
    return &w->entry[w->count++];
}

static bool check_entry(Weights *w, const Entry *e, const char *name, Shape shape, Shape wanted) {
    char is[96], must[96];
    if (!e)
        remember(w, "%s: tensor '%s' %s is missing; do config.json and weights belong together?", weights_path(w), name,
                 shape_text(wanted, must));
    else if (!shape_equal(shape, wanted))
        remember(w, "%s: tensor '%s' has shape %s, config.json asks for %s", weights_path(w), name,
                 shape.rank < 0 ? "of too many dimensions" : shape_text(shape, is), shape_text(wanted, must));
    else if (!is_float(e->tensor->dtype))
        remember(w, "%s: tensor '%s' has type %s; weights must be F32, F16, BF16 or F64", weights_path(w), name,
                 dtype_name(e->tensor->dtype));
    else
        return true;
    return false;
}

static Param *get_entry(Weights *w, const char *name, bool matrix, Shape wanted) {
    Entry *e = entry_find(w, name);
    if (!e && w->blank) e = invent(w, name, wanted);
    if (e) e->asked = true;
    Shape shape = !e ? (Shape){0} : matrix ? matrix_shape(e->tensor) : tensor_shape(e->tensor);
    if (!check_entry(w, e, name, shape, wanted)) return NULL;
    if (!e->param.name)
        e->param = (Param){.name = e->tensor->name,
                           .dtype = e->tensor->dtype,
                           .shape = shape,
                           .data = e->tensor->data,
                           .trainable = w->trainable,
                           .stored = w->stored && dtype_bytes(e->tensor->dtype) == 2,
                           .precise = w->precise,
                           .mapped = is_mapped(w, e->tensor->data)};
    return &e->param;
}

#define FORMAT_NAME(name, format)                                                                                      \
    char name[NAME_LENGTH];                                                                                            \
    va_list args;                                                                                                      \
    va_start(args, format);                                                                                            \
    vsnprintf(name, sizeof name, format, args);                                                                        \
    va_end(args)

Param *weights_get(Weights *w, Shape shape, const char *format, ...) {
    FORMAT_NAME(name, format);
    return get_entry(w, name, false, shape);
}

Param *weights_get_matrix(Weights *w, int64_t rows, int64_t columns, const char *format, ...) {
    FORMAT_NAME(name, format);
    return get_entry(w, name, true, shape2(rows, columns));
}

bool weights_shape(const Weights *w, Shape *out, const char *format, ...) {
    FORMAT_NAME(name, format);
    const Entry *e = entry_find(w, name);
    if (e) *out = tensor_shape(e->tensor);
    return e && out->rank >= 0;
}

void weights_train(Weights *w) { w->trainable = true; }

void weights_keep_stored(Weights *w) { w->stored = true; }

void weights_keep_precise(Weights *w) { w->precise = true; }

bool weights_has(const Weights *w, const char *format, ...) {
    FORMAT_NAME(name, format);
    return entry_find(w, name) != NULL;
}

void weights_ignore(Weights *w, const char *prefix) {
    for (int i = 0; i < w->n_ignored; i++)
        if (strcmp(w->ignored[i], prefix) == 0) return;
    char **longer = realloc(w->ignored, ((size_t)w->n_ignored + 1) * sizeof *longer);
    char *copy = longer ? strdup(prefix) : NULL;
    if (longer) w->ignored = longer;
    if (copy)
        w->ignored[w->n_ignored++] = copy;
    else
        remember(w, "%s: out of memory", weights_path(w));
}

static bool is_ignored(const Weights *w, const char *name) {
    for (int i = 0; i < w->n_ignored; i++)
        if (strncmp(name, w->ignored[i], strlen(w->ignored[i])) == 0) return true;
    return false;
}

const char *weights_mistake(const Weights *w) { return w->mistake[0] ? w->mistake : NULL; }

int weights_finish(Weights *w, Error *err) {
    const char *first = NULL;
    size_t unused = 0;
    for (size_t i = 0; i < w->count; i++) {
        const char *name = w->entry[i].tensor->name;
        if (w->entry[i].asked || is_ignored(w, name)) continue;
        if (unused++ == 0) first = name;
    }
    if (w->mistake[0]) return fail(err, DRPO_E_INPUT, "%s", w->mistake);
    if (unused)
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' (one of %zu) belongs to no layer that config.json describes",
                    weights_path(w), first, unused);
    return 0;
}

size_t weights_bytes(const Weights *w) {
    size_t sum = 0;
    for (size_t i = 0; i < w->count; i++) sum += w->entry[i].tensor->bytes;
    return sum;
}

static size_t entry_in_place(const Entry *e, const Backend *b) {
    const Param *p = &e->param;
    return p->planned && p->mapped && !(b->copies && b->copies(b, p)) ? e->tensor->bytes : 0;
}

size_t weights_in_place(const Weights *w, const Backend *b) {
    size_t sum = 0;
    for (size_t i = 0; i < w->count; i++) sum += entry_in_place(&w->entry[i], b);
    return sum;
}

size_t weights_in_place_of(const Weights *w, const Backend *b, const char *name) {
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->entry[i].tensor->name, name) == 0) return entry_in_place(&w->entry[i], b);
    return 0;
}

void weights_drop_pages(const Weights *w) {
    for (size_t i = 0; i < w->count; i++)
        if (w->entry[i].param.mapped) file_drop_pages(w->entry[i].tensor->data, w->entry[i].tensor->bytes);
}

const char *weights_path(const Weights *w) { return w->parts.path; }

size_t weights_count(const Weights *w) { return w->count; }

const SafeTensor *weights_at(const Weights *w, size_t i) { return i < w->count ? &w->parts.tensor[i] : NULL; }

int weights_sha256(const Weights *w, char hex[65], Error *err) {
    if (w->parts.files == 1) return cached_sha256(safetensors_path(w->parts.file[0]), hex, err);
    size_t room = (size_t)w->parts.files * LINE_LENGTH + 1, used = 0;
    char *lines = calloc(room, 1);
    if (!lines) return fail(err, DRPO_E_MEMORY, "%s: out of memory", w->parts.path);
    int code = 0;
    for (int i = 0; i < w->parts.files && code == 0; i++) {
        const char *path = safetensors_path(w->parts.file[i]), *slash = strrchr(path, '/');
        code = cached_sha256(path, hex, err);
        if (code == 0) used += (size_t)snprintf(lines + used, room - used, "%s  %s\n", hex, slash ? slash + 1 : path);
    }
    if (code == 0) sha256_hex(lines, used, hex);
    free(lines);
    return code;
}
