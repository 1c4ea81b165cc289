/* Text cache: see text_cache.h. A file is a magic word, the SHA-256 of the numbers in hexadecimal, and the numbers in
 * the machine's order. */
#include "model/text_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "drpo.h"

enum { MAGIC_LENGTH = 8, HASH_LENGTH = 64, HEADER = MAGIC_LENGTH + HASH_LENGTH };
static const char MAGIC[] = "drpotxt1";

struct TextCache {
    Arena *arena;
    const char *folder;
    const char *salt; /* what all prompts of these encoders have in common */
    size_t floats, ids;
};

/* A line for each encoder. */
static const char *describe(const TextEncoders *e, const char *backend, Arena *a, Error *err) {
    const char *text = arena_printf(a, "%s %s %s", MAGIC, DRPO_VERSION, backend);
    for (int i = 0; i < e->count && text; i++) {
        const ClipTextConfig *c = &e->encoder[i].config;
        char weights[65];
        if (weights_sha256(e->encoder[i].weights, weights, err) < 0) return NULL;
        text = arena_printf(a, "%s\n%s %d %d %d %d %.9g %d %d %d %d", text, weights, c->width, c->layers, c->heads,
                            c->mlp, (double)c->eps, c->act, c->projection, c->projection_dim, c->eos_id);
    }
    if (!text) fail(err, DRPO_E_MEMORY, "text cache: out of memory");
    return text;
}

static int open_folder(TextCache *c, const char *folder, const TextEncoders *e, const char *backend, Error *err) {
    char hash[65];
    c->floats = text_encoders_floats(e);
    c->ids = (size_t)e->count * (size_t)e->tokens;
    c->salt = describe(e, backend, c->arena, err);
    if (!c->salt) return err->code;
    sha256_hex(c->salt, strlen(c->salt), hash);
    c->folder = arena_printf(c->arena, "%s/%.16s", folder, hash);
    if (!c->folder) return fail(err, DRPO_E_MEMORY, "text cache: out of memory");
    return dir_make(c->folder, err);
}

int text_cache_open(const char *folder, const TextEncoders *e, const char *backend, TextCache **out, Error *err) {
    TextCache *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c || !(c->arena = arena_new())) {
        free(c);
        return fail(err, DRPO_E_MEMORY, "text cache: out of memory");
    }
    int code = open_folder(c, folder, e, backend, err);
    if (code < 0)
        text_cache_close(c);
    else
        *out = c;
    return code;
}

void text_cache_close(TextCache *c) {
    if (!c) return;
    arena_free(c->arena);
    free(c);
}

/* FOLDER/<hash of salt and ids>; NULL: out of memory. */
static const char *path_of(const TextCache *c, const int32_t *ids, Arena *a) {
    size_t salt = strlen(c->salt) + 1, bytes = c->ids * sizeof *ids;
    char *key = arena_alloc(a, salt + bytes), name[65];
    if (!key) return NULL;
    memcpy(key, c->salt, salt);
    memcpy(key + salt, ids, bytes);
    sha256_hex(key, salt + bytes, name);
    return path_join(a, c->folder, name);
}

static bool is_sound(const TextCache *c, const MappedFile *f) {
    char hash[65];
    size_t bytes = c->floats * sizeof(float);
    if (f->size != HEADER + bytes || memcmp(f->data, MAGIC, MAGIC_LENGTH) != 0) return false;
    sha256_hex(f->data + HEADER, bytes, hash);
    return memcmp(hash, f->data + MAGIC_LENGTH, HASH_LENGTH) == 0;
}

bool text_cache_get(const TextCache *c, const int32_t *ids, float *text) {
    Arena *a = arena_new();
    const char *path = a ? path_of(c, ids, a) : NULL;
    MappedFile f = {0};
    bool sound = path && file_exists(path) && file_map(path, &f, NULL) == 0 && is_sound(c, &f);
    if (sound) memcpy(text, f.data + HEADER, c->floats * sizeof(float));
    file_unmap(&f);
    arena_free(a);
    return sound;
}

static int write(const char *path, const char *hash, const float *text, size_t bytes, Error *err) {
    AtomicFile f;
    TRY(atomic_open(&f, path, err));
    TRY(atomic_write(&f, MAGIC, MAGIC_LENGTH, err));
    TRY(atomic_write(&f, hash, HASH_LENGTH, err));
    TRY(atomic_write(&f, text, bytes, err));
    return atomic_commit(&f, err);
}

int text_cache_put(const TextCache *c, const int32_t *ids, const float *text, Error *err) {
    char hash[65];
    size_t bytes = c->floats * sizeof(float);
    Arena *a = arena_new();
    const char *path = a ? path_of(c, ids, a) : NULL;
    sha256_hex(text, bytes, hash);
    int code = path ? write(path, hash, text, bytes, err) : fail(err, DRPO_E_MEMORY, "text cache: out of memory");
    arena_free(a);
    return code;
}
