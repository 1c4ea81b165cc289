/* From a checkpoint's tree of values to its tensors: which calls rebuild one, where its storage lies, its shape. */
#include "format/torch_pickle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/pickle.h"
#include "format/safetensors_types.h"
#include "format/zip_stored.h"

enum { DEPTH_MAX = 8, VISITS_MAX = 1 << 18, KEY_MAX = 1024 };

/* ---- names that a checkpoint may mention ---- */

typedef struct StorageType {
    const char *storage, *dtype; /* torch.<storage>, or torch.<dtype> with an untyped storage */
    DType type;                  /* DT_COUNT: known, but no type of weights */
} StorageType;

static const StorageType storage_types[] = {
    {"FloatStorage", "float32", DT_F32},
    {"HalfStorage", "float16", DT_F16},
    {"BFloat16Storage", "bfloat16", DT_BF16},
    {"DoubleStorage", "float64", DT_F64},
    {"LongStorage", "int64", DT_I64},
    {"IntStorage", "int32", DT_I32},
    {"ByteStorage", "uint8", DT_U8},
    {"BoolStorage", "bool", DT_BOOL},
    {"ShortStorage", "int16", DT_COUNT},
    {"CharStorage", "int8", DT_COUNT},
    {"ComplexFloatStorage", "complex64", DT_COUNT},
    {"ComplexDoubleStorage", "complex128", DT_COUNT},
    {"", "float8_e4m3fn", DT_COUNT},
    {"", "float8_e5m2", DT_COUNT},
};

static const StorageType *storage_type(const PickleValue *v) {
    if (!v || v->kind != PICKLE_GLOBAL || strcmp(v->module, "torch") != 0) return NULL;
    for (size_t i = 0; i < sizeof storage_types / sizeof *storage_types; i++)
        if (strcmp(v->text, storage_types[i].storage) == 0 || strcmp(v->text, storage_types[i].dtype) == 0)
            return &storage_types[i];
    return NULL;
}

/* Plain values that trainers store beside the weights; they are never used. */
static const char *const known[][2] = {
    {"collections", "OrderedDict"},
    {"collections", "defaultdict"},
    {"collections", "Counter"},
    {"builtins", "dict"},
    {"builtins", "set"},
    {"builtins", "list"},
    {"builtins", "int"},
    {"builtins", "complex"},
    {"__builtin__", "set"},
    {"argparse", "Namespace"},
    {"pathlib", "PosixPath"},
    {"pathlib", "Path"},
    {"_codecs", "encode"},
    {"numpy", "dtype"},
    {"numpy", "ndarray"},
    {"numpy.core.multiarray", "scalar"},
    {"numpy.core.multiarray", "_reconstruct"},
    {"numpy._core.multiarray", "scalar"},
    {"numpy._core.multiarray", "_reconstruct"},
    {"torch", "device"},
    {"torch", "Size"},
    {"torch", "Tensor"},
    {"torch.storage", "UntypedStorage"},
    {"torch.nn.parameter", "Parameter"},
    {"torch._utils", "_rebuild_tensor"},
    {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_tensor_v3"},
    {"torch._utils", "_rebuild_parameter"},
};

static bool allowed(const char *module, const char *name) {
    const PickleValue v = {.kind = PICKLE_GLOBAL, .text = name, .module = module};
    if (*name && storage_type(&v)) return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i][0], module) == 0 && strcmp(known[i][1], name) == 0) return true;
    return false;
}

/* ---- the file ---- */

typedef struct Torch {
    const char *name;
    Arena *arena; /* becomes the SafeFile's */
    ZipStored zip;
    char *top; /* "archive": the folder that holds data.pkl */
    PickleValue *tree;
    SafeTensor *tensor;
    size_t count, room, visits;
    size_t copied, size; /* bytes of copies, of the file */
    Error *err;
} Torch;

static int refuse(const Torch *t, const char *key, const char *what) {
    return fail(t->err, DRPO_E_INPUT, "%s: tensor '%.300s' %s", t->name, key, what);
}

static int no_memory(const Torch *t) { return fail(t->err, DRPO_E_MEMORY, "%s: out of memory", t->name); }

static const ZipEntry *entry_of(const Torch *t, const char *rest) {
    char name[KEY_MAX];
    const int n = snprintf(name, sizeof name, "%s%s", t->top, rest);
    return n < (int)sizeof name ? zip_stored_find(&t->zip, name) : NULL;
}

static int read_archive(Torch *t, const void *data, size_t size) {
    static const char pickle[] = "/data.pkl";
    TRY(zip_stored_read(t->name, data, size, t->arena, &t->zip, t->err));
    const ZipEntry *found = NULL;
    for (size_t i = 0; i < t->zip.count && !found; i++) {
        const char *slash = strchr(t->zip.entry[i].name, '/');
        if (slash && strcmp(slash, pickle) == 0) found = &t->zip.entry[i];
    }
    if (!found)
        return fail(t->err, DRPO_E_INPUT, "%s: a zip archive, but not one of torch.save (it has no data.pkl)", t->name);
    t->top = arena_strdup(t->arena, found->name);
    if (!t->top) return no_memory(t);
    t->top[strlen(t->top) - strlen(pickle)] = 0;
    const ZipEntry *order = entry_of(t, "/byteorder");
    if (order && (order->size < 6 || memcmp(order->data, "little", 6) != 0))
        return fail(t->err, DRPO_E_INPUT, "%s: was saved on a big-endian machine; save it again on a usual one",
                    t->name);
    if (entry_of(t, "/constants.pkl"))
        return fail(t->err, DRPO_E_INPUT, "%s: is a TorchScript program; save its state_dict() instead", t->name);
    return pickle_read(t->name, found->data, found->size, allowed, t->arena, &t->tree, t->err);
}

/* ---- one tensor ---- */

typedef struct Source {
    const ZipEntry *storage;
    DType type;
    int64_t offset, stride[SAFE_MAX_RANK]; /* in elements */
} Source;

static const PickleValue *argument(const PickleValue *call, uint32_t i) {
    return call->arguments->n > i ? call->arguments->item[i] : NULL;
}

static bool is_tensor(const PickleValue *v) {
    return pickle_is_call(v, "torch._utils", "_rebuild_tensor_v2") ||
           pickle_is_call(v, "torch._utils", "_rebuild_tensor_v3") ||
           pickle_is_call(v, "torch._utils", "_rebuild_tensor");
}

/* The call that makes the tensor, through the parameter around it; NULL: no tensor. */
static const PickleValue *tensor_call(const PickleValue *v) {
    if (pickle_is_call(v, "torch._utils", "_rebuild_parameter") && argument(v, 0)) v = argument(v, 0);
    return is_tensor(v) ? v : NULL;
}

/* ("storage", type, key, location, count) */
static int read_storage(const Torch *t, const char *key, const PickleValue *call, Source *s) {
    const PickleValue *p = argument(call, 0);
    const PickleValue *part = p && p->kind == PICKLE_PERSISTENT ? p->arguments : NULL;
    if (!part || part->kind != PICKLE_TUPLE || part->n < 5 || part->item[2]->kind != PICKLE_TEXT)
        return refuse(t, key, "has no storage");
    const PickleValue *untyped = part->item[1];
    const bool v3 = strcmp(call->called->text, "_rebuild_tensor_v3") == 0;
    const bool bare = untyped->kind == PICKLE_GLOBAL && strcmp(untyped->text, "UntypedStorage") == 0;
    const StorageType *type = storage_type(v3 && bare ? argument(call, 6) : untyped);
    if (!type || type->type == DT_COUNT)
        return refuse(t, key, "has an element type that is not read; F32, F16, BF16, F64 and integers are");
    char name[KEY_MAX];
    snprintf(name, sizeof name, "/data/%.900s", part->item[2]->text);
    s->storage = entry_of(t, name);
    s->type = type->type;
    return s->storage ? 0 : refuse(t, key, "has a storage that is not in the file; fetch it again");
}

static bool read_sizes(const PickleValue *v, int64_t *out, int *rank) {
    if (v && pickle_is_call(v, "torch", "Size")) v = argument(v, 0);
    if (!v || v->kind != PICKLE_TUPLE || v->n > SAFE_MAX_RANK) return false;
    *rank = (int)v->n;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->item[i]->kind != PICKLE_INT || v->item[i]->integer < 0) return false;
        out[i] = v->item[i]->integer;
    }
    return true;
}

/* The elements that the view reaches lie inside its storage. */
static bool fits(const SafeTensor *x, const Source *s) {
    int64_t last = s->offset;
    const int64_t room = (int64_t)(s->storage->size / SAFE_TYPES[s->type].bytes);
    for (int i = 0; i < x->rank; i++) {
        int64_t step;
        if (x->dim[i] == 0) return true;
        if (__builtin_mul_overflow(x->dim[i] - 1, s->stride[i], &step) || __builtin_add_overflow(last, step, &last))
            return false;
    }
    return last < room;
}

static bool contiguous(const SafeTensor *x, const Source *s) {
    int64_t step = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        if (x->dim[i] != 1 && s->stride[i] != step) return false;
        step *= x->dim[i]; /* no overflow: the byte count was checked */
    }
    return true;
}

/* Row by row of the last dimension, in the order of the shape. */
static void copy_strided(const SafeTensor *x, const Source *s, uint8_t *out) {
    const size_t bytes = SAFE_TYPES[s->type].bytes;
    const uint8_t *from = s->storage->data;
    int64_t index[SAFE_MAX_RANK] = {0};
    for (size_t done = 0; done < x->bytes; done += bytes) {
        int64_t at = s->offset;
        for (int i = 0; i < x->rank; i++) at += index[i] * s->stride[i];
        memcpy(out + done, from + (size_t)at * bytes, bytes);
        for (int i = x->rank - 1; i >= 0 && ++index[i] == x->dim[i]; i--) index[i] = 0;
    }
}

static int place(Torch *t, SafeTensor *x, const Source *s) {
    if (x->bytes == 0 || contiguous(x, s)) {
        x->data = s->storage->data + (x->bytes ? (size_t)s->offset * SAFE_TYPES[s->type].bytes : 0);
        return 0;
    }
    t->copied += x->bytes; /* an expanded tensor could ask for any amount */
    if (x->bytes > s->storage->size || t->copied > t->size)
        return refuse(t, x->name, "repeats its elements; save it contiguous");
    uint8_t *copy = arena_alloc(t->arena, x->bytes);
    if (!copy) return no_memory(t);
    copy_strided(x, s, copy);
    x->data = copy;
    return 0;
}

static int read_tensor(Torch *t, const char *key, const PickleValue *call) {
    if (t->count == t->room) {
        const size_t room = t->room ? 2 * t->room : 256;
        SafeTensor *longer = realloc(t->tensor, room * sizeof *longer);
        if (!longer) return no_memory(t);
        t->tensor = longer;
        t->room = room;
    }
    SafeTensor x = {.name = arena_strdup(t->arena, key)};
    Source s = {0};
    if (!x.name) return no_memory(t);
    TRY(read_storage(t, key, call, &s));
    x.dtype = s.type;
    const PickleValue *offset = argument(call, 1);
    int strides = 0;
    if (!offset || offset->kind != PICKLE_INT || offset->integer < 0 ||
        !read_sizes(argument(call, 2), x.dim, &x.rank) || !read_sizes(argument(call, 3), s.stride, &strides) ||
        strides != x.rank)
        return refuse(t, key, "has no proper shape");
    s.offset = offset->integer;
    if (!safe_tensor_bytes(&x, &x.bytes) || !fits(&x, &s))
        return refuse(t, key, "does not fit its storage; the file is damaged");
    TRY(place(t, &x, &s));
    t->tensor[t->count++] = x;
    return 0;
}

/* ---- which tensors ---- */

/* A dictionary, or a call that makes one (OrderedDict), with its pairs. */
static bool is_dict(const PickleValue *v) {
    return (v->kind == PICKLE_DICT || (v->kind == PICKLE_CALL && !tensor_call(v))) && v->n % 2 == 0;
}

static const PickleValue *dict_find(const PickleValue *d, const char *key, size_t length) {
    for (uint32_t i = 0; i + 1 < d->n; i += 2)
        if (d->item[i]->kind == PICKLE_TEXT && strlen(d->item[i]->text) == length &&
            strncmp(d->item[i]->text, key, length) == 0)
            return d->item[i + 1];
    return NULL;
}

static bool holds_tensors(const PickleValue *d) {
    for (uint32_t i = 1; is_dict(d) && i < d->n; i += 2)
        if (tensor_call(d->item[i])) return true;
    return false;
}

static int fail_root(const Torch *t, const PickleValue *d) {
    char keys[400] = "";
    for (uint32_t i = 0; i + 1 < d->n && strlen(keys) < 300; i += 2)
        if (d->item[i]->kind == PICKLE_TEXT)
            snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s'%.60s'", *keys ? ", " : "", d->item[i]->text);
    return fail(t->err, DRPO_E_INPUT, "%s: no dictionary of tensors in it (%s%s)", t->name,
                *keys ? "its keys: " : "it has no keys", keys);
}

static int find_root(const Torch *t, const char *root, const PickleValue **out) {
    static const char *const usual[] = {"state_dict", "model_state_dict", "model", "module", "net", "params", "ema"};
    const PickleValue *d = t->tree;
    if (!is_dict(d)) return fail(t->err, DRPO_E_INPUT, "%s: holds no dictionary of tensors", t->name);
    for (const char *part = root; part && *part; part += strcspn(part, ".") + (part[strcspn(part, ".")] == '.')) {
        const PickleValue *next = dict_find(d, part, strcspn(part, "."));
        if (!next || !is_dict(next)) return fail_root(t, d);
        d = next;
    }
    *out = d;
    if (root || holds_tensors(d)) return 0;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        const PickleValue *inner = dict_find(d, usual[i], strlen(usual[i]));
        if (!inner || !holds_tensors(inner)) continue;
        *out = inner;
        return 0;
    }
    return fail_root(t, d);
}

static int collect(Torch *t, const PickleValue *d, const char *prefix, int depth) {
    char key[KEY_MAX];
    if (depth > DEPTH_MAX) return fail(t->err, DRPO_E_INPUT, "%s: its dictionaries are nested too deeply", t->name);
    for (uint32_t i = 0; i + 1 < d->n; i += 2) {
        const PickleValue *name = d->item[i], *v = d->item[i + 1];
        if (++t->visits > VISITS_MAX) return fail(t->err, DRPO_E_INPUT, "%s: has too many entries", t->name);
        if (name->kind != PICKLE_TEXT) continue;
        const PickleValue *call = tensor_call(v);
        if (!call && !is_dict(v)) continue;
        if (snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name->text) >= (int)sizeof key)
            return refuse(t, key, "has a name that is too long");
        TRY(call ? read_tensor(t, key, call) : collect(t, v, key, depth + 1));
    }
    return 0;
}

static int open_parsed(Torch *t, const void *data, size_t size, const char *root) {
    const PickleValue *d = NULL;
    TRY(read_archive(t, data, size));
    TRY(find_root(t, root, &d));
    TRY(collect(t, d, "", 0));
    return t->count ? 0 : fail_root(t, d);
}

int torch_pickle_open_memory(const char *name, const void *data, size_t size, const char *root, SafeFile **out,
                             Error *err) {
    *out = NULL;
    if (!zip_is(data, size))
        return fail(err, DRPO_E_INPUT,
                    "%s: no checkpoint that torch.save has written since PyTorch 1.6; load and save it again with a "
                    "present version, or use its safetensors",
                    name);
    Torch t = {.name = name, .arena = arena_new(), .size = size, .err = err};
    int code = t.arena ? open_parsed(&t, data, size, root) : no_memory(&t);
    if (code == 0)
        code = safe_file_from(name, t.tensor, t.count, t.arena, out, err);
    else
        arena_free(t.arena);
    free(t.tensor);
    return code;
}

int torch_pickle_open(const char *path, const char *root, SafeFile **out, Error *err) {
    *out = NULL;
    MappedFile map;
    TRY(file_map(path, &map, err));
    int code = torch_pickle_open_memory(path, map.data, map.size, root, out, err);
    if (code < 0)
        file_unmap(&map);
    else
        safe_file_keep(*out, map);
    return code;
}

bool torch_pickle_is(const char *path) {
    uint8_t start[4];
    FILE *f = fopen(path, "rb");
    const bool is = f && fread(start, 1, sizeof start, f) == sizeof start && zip_is(start, sizeof start);
    if (f) fclose(f);
    return is;
}
