/* Writing safetensors: larger element types first, then by name, so that the bytes depend on the content alone and
 * every tensor is aligned to its type. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/safetensors_types.h"
#include "format/utf8.h"

const SafeType SAFE_TYPES[DT_COUNT] = {
    [DT_F32] = {"F32", 4}, [DT_F16] = {"F16", 2}, [DT_BF16] = {"BF16", 2}, [DT_F64] = {"F64", 8},
    [DT_I32] = {"I32", 4}, [DT_I64] = {"I64", 8}, [DT_U8] = {"U8", 1},     [DT_BOOL] = {"BOOL", 1},
};

bool safe_tensor_bytes(const SafeTensor *t, size_t *bytes) {
    size_t total = SAFE_TYPES[t->dtype].bytes;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(total, (size_t)t->dim[i], &total)) return false;
    *bytes = total;
    return true;
}

static int write_order(const void *a, const void *b) {
    const SafeTensor *x = *(const SafeTensor *const *)a, *y = *(const SafeTensor *const *)b;
    size_t bx = SAFE_TYPES[x->dtype].bytes, by = SAFE_TYPES[y->dtype].bytes;
    if (bx != by) return bx > by ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int check_tensor(const char *path, const SafeTensor *t, Error *err) {
    size_t bytes = 0;
    if ((int)t->dtype < 0 || t->dtype >= DT_COUNT || t->rank < 0 || t->rank > SAFE_MAX_RANK ||
        !safe_tensor_bytes(t, &bytes))
        return fail(err, DRPO_E_INTERNAL, "%s: tensor '%s' has an impossible type or shape", path, t->name);
    if (bytes != t->bytes)
        return fail(err, DRPO_E_INTERNAL, "%s: tensor '%s' has %zu bytes, its shape and dtype need %zu", path, t->name,
                    t->bytes, bytes);
    if (strcmp(t->name, "__metadata__") == 0)
        return fail(err, DRPO_E_INTERNAL, "%s: a tensor cannot be called __metadata__", path);
    return 0;
}

/* NULL when out of memory. */
static json_t *describe(const SafeTensor *t, json_int_t begin) {
    json_t *shape = json_array();
    int bad = shape == NULL;
    for (int i = 0; i < t->rank; i++) bad |= json_array_append_new(shape, json_integer(t->dim[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", SAFE_TYPES[t->dtype].name, "shape", shape, "data_offsets",
                              begin, begin + (json_int_t)t->bytes);
    if (!bad) return entry;
    json_decref(entry);
    return NULL;
}

static int add_metadata(const char *path, json_t *header, const TextPair *metadata, size_t m, Error *err) {
    json_t *object = json_object();
    int bad = json_object_set_new(header, "__metadata__", object);
    for (size_t i = 0; i < m && !bad; i++) {
        size_t length = strlen(metadata[i].value);
        if (utf8_valid_prefix(metadata[i].value, length) < length ||
            utf8_valid_prefix(metadata[i].key, strlen(metadata[i].key)) < strlen(metadata[i].key))
            return fail(err, DRPO_E_INPUT, "%s: metadata '%s' is not UTF-8", path, metadata[i].key);
        bad = json_object_set_new(object, metadata[i].key, json_string(metadata[i].value));
    }
    /* Readers of other projects refuse files without it. */
    if (!bad && !json_object_get(object, "format")) bad = json_object_set_new(object, "format", json_string("pt"));
    return bad ? fail(err, DRPO_E_MEMORY, "%s: not enough memory for its header", path) : 0;
}

static int add_tensors(const char *path, json_t *header, const SafeTensor *const *sorted, size_t n, Error *err) {
    json_int_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        const SafeTensor *t = sorted[i];
        TRY(check_tensor(path, t, err));
        if (json_object_get(header, t->name))
            return fail(err, DRPO_E_INTERNAL, "%s: two tensors are called '%s'", path, t->name);
        if (json_object_set_new(header, t->name, describe(t, begin)) != 0)
            return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its header (or the name '%s' is not UTF-8)",
                        path, t->name);
        begin += (json_int_t)t->bytes;
    }
    return 0;
}

/* What is written: tensors in file order, and who makes their bytes (NULL: they are in memory). */
typedef struct Content {
    const SafeTensor **sorted;
    size_t n;
    SafeMaker *make;
    void *user;
} Content;

static int write_made(AtomicFile *f, const Content *c, const SafeTensor *t, void *piece, Error *err) {
    for (size_t first = 0; first < t->bytes; first += SAFE_PIECE) {
        const size_t left = t->bytes - first, n = left < SAFE_PIECE ? left : SAFE_PIECE;
        TRY(c->make(c->user, t, first, n, piece, err));
        TRY(atomic_write(f, piece, n, err));
    }
    return 0;
}

static int write_tensors(AtomicFile *f, const Content *c, Error *err) {
    void *piece = c->make ? malloc(SAFE_PIECE) : NULL;
    int code = c->make && !piece ? fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path) : 0;
    for (size_t i = 0; i < c->n && code == 0; i++) {
        const SafeTensor *t = c->sorted[i];
        code = c->make ? write_made(f, c, t, piece, err) : atomic_write(f, t->data, t->bytes, err);
    }
    free(piece);
    return code;
}

static int write_file(const char *path, const char *header, const Content *content, Error *err) {
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    uint8_t size[8];
    for (int i = 0; i < 8; i++) size[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    AtomicFile f;
    TRY(atomic_open(&f, path, err));
    TRY(atomic_write(&f, size, sizeof size, err));
    TRY(atomic_write(&f, header, length, err));
    TRY(atomic_write(&f, "        ", padded - length, err));
    const int code = write_tensors(&f, content, err);
    if (code == 0) return atomic_commit(&f, err);
    atomic_abort(&f);
    return code;
}

static int write_content(const char *path, const SafeTensor *tensors, Content c, const TextPair *metadata, size_t m,
                         Error *err) {
    const size_t n = c.n;
    const SafeTensor **sorted = c.sorted = calloc(n + 1, sizeof(SafeTensor *));
    json_t *header = json_object();
    char *text = NULL;
    int code = sorted && header ? 0 : fail(err, DRPO_E_MEMORY, "%s: not enough memory for its header", path);
    if (code == 0) {
        for (size_t i = 0; i < n; i++) sorted[i] = &tensors[i];
        qsort(sorted, n, sizeof *sorted, write_order);
        code = add_metadata(path, header, metadata, m, err);
    }
    if (code == 0) code = add_tensors(path, header, sorted, n, err);
    if (code == 0 && !(text = json_dumps(header, JSON_COMPACT)))
        code = fail(err, DRPO_E_MEMORY, "%s: not enough memory for its header", path);
    if (code == 0) code = write_file(path, text, &c, err);
    free(text);
    json_decref(header);
    free(sorted);
    return code;
}

int safetensors_write(const char *path, const SafeTensor *tensors, size_t n, const TextPair *metadata, size_t m,
                      Error *err) {
    return write_content(path, tensors, (Content){.n = n}, metadata, m, err);
}

int safetensors_write_made(const char *path, const SafeTensor *tensors, size_t n, SafeMaker *make, void *user,
                           Error *err) {
    return write_content(path, tensors, (Content){.n = n, .make = make, .user = user}, NULL, 0, err);
}
