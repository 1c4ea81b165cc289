/* Special tokens: the roles bos, eos, unk and pad, and every text that is one token by decree.
 *
 * Newer folders list all of them in tokenizer_config.json ("added_tokens_decoder", by id); then that file also names
 * the roles. In older ones special_tokens_map.json names the roles, and what it leaves out stands in
 * tokenizer_config.json. A token is a string or an object with "content" and flags. */
#include "model/tokenizer_special.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/unicode.h"

enum { LONGEST = 4096 }; /* of model_max_length */

static const char START[] = "<|startoftext|>", END[] = "<|endoftext|>";

typedef struct Source {
    const char *path;
    json_t *object; /* NULL: the file is missing */
} Source;

void special_tokens_free(SpecialTokens *s) {
    for (int i = 0; i < s->n; i++) free(s->token[i].text);
    *s = (SpecialTokens){0};
}

/* One text may have several roles; the last role with a flag of its own decides how it is looked for. */
static int add_token(SpecialTokens *s, const Bpe *bpe, const char *path, const char *text, SpecialToken flags,
                     int32_t *id, Error *err) {
    *id = bpe_find(bpe, text);
    if (*id < 0) return fail(err, DRPO_E_INPUT, "%s: special token '%s' is not in vocab.json", path, text);
    if (!*text) return fail(err, DRPO_E_INPUT, "%s: a special token is empty", path);
    for (int i = 0; i < s->n; i++)
        if (s->token[i].id == *id && (s->token[i].listed || s->token[i].normalized == flags.normalized)) return 0;
    for (int i = 0; i < s->n; i++)
        if (s->token[i].id == *id) s->token[i].replaced = true;
    if (s->n == MAX_SPECIAL) return fail(err, DRPO_E_INPUT, "%s: more than %d special tokens", path, MAX_SPECIAL);
    flags.id = *id;
    flags.text = flags.normalized ? unicode_nfc_lower(text, strlen(text)) : strdup(text);
    if (!flags.text) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    s->token[s->n++] = flags;
    return 0;
}

/* A string, or {"content": ..., "normalized": ...}. */
static int read_token(SpecialTokens *s, const Bpe *bpe, const char *path, const char *key, const json_t *value,
                      bool listed, int32_t *id, Error *err) {
    const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (!text) return fail(err, DRPO_E_INPUT, "%s: '%s' is neither a token nor an object with \"content\"", path, key);
    static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (json_is_true(json_object_get(value, unsupported[i])))
            return fail(err, DRPO_E_INPUT, "%s: %s of special token '%s' is not supported", path, unsupported[i], text);
    bool normalized = json_is_true(json_object_get(value, "normalized"));
    return add_token(s, bpe, path, text, (SpecialToken){.normalized = normalized, .listed = listed}, id, err);
}

static int read_role(SpecialTokens *s, const Bpe *bpe, const Source source[2], const char *key, const char *fallback,
                     int32_t *id, Error *err) {
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(source[i].object, key);
        if (value && !json_is_null(value)) return read_token(s, bpe, source[i].path, key, value, false, id, err);
    }
    return add_token(s, bpe, source[0].path, fallback, (SpecialToken){0}, id, err);
}

static int read_added(SpecialTokens *s, const Bpe *bpe, const char *path, json_t *added, Error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(added, key, value) {
        int32_t id;
        char *rest;
        TRY(read_token(s, bpe, path, key, value, true, &id, err));
        if (strtol(key, &rest, 10) != id || *rest)
            return fail(err, DRPO_E_INPUT, "%s: added_tokens_decoder gives id %s to a token that has %d in vocab.json",
                        path, key, id);
    }
    return 0;
}

static int read_length(SpecialTokens *s, const Source *config, Error *err) {
    const json_t *value = json_object_get(config->object, "model_max_length");
    double length = json_number_value(value); /* files without a limit hold a number beyond all integers */
    if (!value || length < 2 || length > LONGEST || length != (int)length)
        return fail(err, DRPO_E_INPUT, "%s: model_max_length must be a whole number from 2 to %d", config->path,
                    LONGEST);
    s->length = (int)length;
    return 0;
}

static int read_sources(SpecialTokens *s, const Bpe *bpe, const Source *config, const Source *map, Error *err) {
    TRY(read_length(s, config, err));
    json_t *added = json_object_get(config->object, "added_tokens_decoder");
    Source order[2] = {*map, *config};
    if (json_object_size(added) > 0) {
        TRY(read_added(s, bpe, config->path, added, err));
        order[0] = *config;
        order[1] = (Source){map->path, NULL};
    }
    TRY(read_role(s, bpe, order, "bos_token", START, &s->start, err));
    TRY(read_role(s, bpe, order, "eos_token", END, &s->end, err));
    TRY(read_role(s, bpe, order, "unk_token", END, &s->unknown, err));
    return read_role(s, bpe, order, "pad_token", END, &s->padding, err);
}

static int open_source(Arena *arena, const char *folder, const char *name, Source *out, Error *err) {
    char *path = path_join(arena, folder, name);
    if (!path) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    *out = (Source){path, NULL};
    if (file_exists(path)) TRY(json_load_path(path, &out->object, err));
    return 0;
}

int special_tokens_read(const char *folder, const Bpe *bpe, SpecialTokens *s, Error *err) {
    Arena *arena = arena_new();
    if (!arena) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    Source config = {0}, map = {0};
    int code = open_source(arena, folder, "tokenizer_config.json", &config, err);
    if (code >= 0) code = open_source(arena, folder, "special_tokens_map.json", &map, err);
    if (code >= 0) code = read_sources(s, bpe, &config, &map, err);
    json_decref(config.object);
    json_decref(map.object);
    arena_free(arena);
    return code;
}

const SpecialToken *special_tokens_find(const SpecialTokens *s, bool normalized, const char *text, size_t size,
                                        size_t *start, size_t *length) {
    const SpecialToken *best = NULL;
    *start = size;
    *length = 0;
    for (int i = 0; i < s->n; i++) {
        size_t n = strlen(s->token[i].text);
        if (s->token[i].normalized != normalized || s->token[i].replaced) continue;
        const char *found = memmem(text, size, s->token[i].text, n);
        if (!found) continue;
        size_t at = (size_t)(found - text);
        if (at < *start || (at == *start && n > *length)) {
            best = &s->token[i];
            *start = at;
            *length = n;
        }
    }
    return best;
}
