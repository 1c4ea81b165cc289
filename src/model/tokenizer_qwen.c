/* Qwen2 tokenizer: text -> ids, the first stage of a reward that reads a prompt with a language model.
 *
 *     text -> added tokens cut out -> NFC -> words by a pattern -> byte pairs
 *
 * as transformers' Qwen2Tokenizer does it. A word takes the blank in front of it along; digits stand alone. */
#include "model/tokenizer_qwen.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/utf8.h"
#include "model/unicode.h"
#include "model/word_pattern.h"

enum { MAX_ADDED = 256 };

/* White space as Unicode's property of that name has it: \s of PCRE2 counts one character more. Contractions; a word
 * with one character before it; a digit; other signs with a blank before and line ends behind them; white space up to
 * its last line end, else without its last character, which belongs to what follows. */
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
static const char PATTERN[] =
    "(?i:'(?:[stmd]|re|ve|ll))|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|"
    "[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

typedef struct AddedToken {
    char *text;
    size_t length;
    int32_t id;
} AddedToken;

struct QwenTokenizer {
    Bpe *bpe;
    AddedToken added[MAX_ADDED];
    int n_added, size;
    pcre2_code *pattern;
};

int qwen_tokenizer_size(const QwenTokenizer *t) { return t->size; }

int32_t qwen_tokenizer_find(const QwenTokenizer *t, const char *text) {
    for (int i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].text, text) == 0) return t->added[i].id;
    return -1;
}

static int add_token(QwenTokenizer *t, const char *where, const char *text, int64_t id, Error *err) {
    if (!text || !*text || id < 0 || id > INT32_MAX / 2)
        return fail(err, DRPO_E_INPUT, "%s: an added token lacks its text or id", where);
    if (qwen_tokenizer_find(t, text) >= 0) return 0;
    if (t->n_added == MAX_ADDED) return fail(err, DRPO_E_INPUT, "%s: more than %d added tokens", where, MAX_ADDED);
    char *copy = strdup(text);
    if (!copy) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    t->added[t->n_added++] = (AddedToken){copy, strlen(copy), (int32_t)id};
    if (id >= t->size) t->size = (int)id + 1;
    return 0;
}

int qwen_tokenizer_add(QwenTokenizer *t, const char *text, int32_t *id, Error *err) {
    TRY(add_token(t, "tokenizer", text, t->size, err));
    *id = qwen_tokenizer_find(t, text);
    return 0;
}

/* {"151643": {"content": "<|endoftext|>", ...}, ...} */
static int read_decoder(QwenTokenizer *t, const char *path, json_t *decoder, Error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(decoder, key, value) {
        char *end;
        long long id = strtoll(key, &end, 10);
        TRY(add_token(t, path, json_string_value(json_object_get(value, "content")), *end ? -1 : id, err));
    }
    return 0;
}

/* [{"id": 151643, "content": "<|endoftext|>", ...}, ...] */
static int read_list(QwenTokenizer *t, const char *path, json_t *list, Error *err) {
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value) {
        const json_t *id = json_object_get(value, "id");
        TRY(add_token(t, path, json_string_value(json_object_get(value, "content")),
                      json_is_integer(id) ? json_integer_value(id) : -1, err));
    }
    return 0;
}

typedef int ReadAdded(QwenTokenizer *t, const char *path, json_t *value, Error *err);

/* What `read` finds under `key` of FOLDER/NAME; a missing file is fine. */
static int read_added(QwenTokenizer *t, const char *folder, const char *name, const char *key, ReadAdded *read,
                      Error *err) {
    Arena *arena = arena_new();
    char *path = arena ? path_join(arena, folder, name) : NULL;
    json_t *root = NULL;
    int code = path ? 0 : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    if (code == 0 && file_exists(path)) code = json_load_path(path, &root, err);
    if (code == 0 && root) code = read(t, path, json_object_get(root, key), err);
    json_decref(root);
    arena_free(arena);
    return code;
}

static int open_all(QwenTokenizer *t, const char *folder, Error *err) {
    TRY(bpe_open_unmarked(folder, &t->bpe, err));
    t->size = bpe_size(t->bpe);
    TRY(read_added(t, folder, "tokenizer_config.json", "added_tokens_decoder", read_decoder, err));
    TRY(read_added(t, folder, "tokenizer.json", "added_tokens", read_list, err));
    return word_pattern_compile(PATTERN, &t->pattern, err);
}

int qwen_tokenizer_open(const char *folder, QwenTokenizer **out, Error *err) {
    *out = NULL;
    QwenTokenizer *t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    int code = open_all(t, folder, err);
    if (code < 0) {
        qwen_tokenizer_free(t);
        return code;
    }
    *out = t;
    return 0;
}

void qwen_tokenizer_free(QwenTokenizer *t) {
    if (!t) return;
    bpe_free(t->bpe);
    for (int i = 0; i < t->n_added; i++) free(t->added[i].text);
    pcre2_code_free(t->pattern);
    free(t);
}

/* ---- text -> ids ---- */

/* The first added token in the text, the longest of several at one place; NULL: none. */
static const AddedToken *next_added(const QwenTokenizer *t, const char *text, size_t size, size_t *start) {
    const AddedToken *best = NULL;
    *start = size;
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        const char *found = memmem(text, size, a->text, a->length);
        size_t at = found ? (size_t)(found - text) : size;
        if (!found || at > *start || (at == *start && best && a->length <= best->length)) continue;
        best = a;
        *start = at;
    }
    return best;
}

static int encode_words(const QwenTokenizer *t, pcre2_match_data *match, const char *text, size_t size, TokenIds *ids,
                        Error *err) {
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
    for (size_t at = 0; at < size; at = range[1]) {
        int found = pcre2_match(t->pattern, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, match, NULL);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) return fail(err, DRPO_E_INTERNAL, "tokenizer: PCRE2 failed with code %d", found);
        TRY(bpe_encode(t->bpe, text + range[0], range[1] - range[0], -1, ids, err));
    }
    return 0;
}

static int encode_plain(const QwenTokenizer *t, pcre2_match_data *match, const char *text, size_t size, TokenIds *ids,
                        Error *err) {
    if (size == 0) return 0;
    char *composed = unicode_nfc(text, size);
    if (!composed) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    int code = encode_words(t, match, composed, strlen(composed), ids, err);
    free(composed);
    return code;
}

static int encode_all(const QwenTokenizer *t, pcre2_match_data *match, const char *text, size_t size, TokenIds *ids,
                      Error *err) {
    for (size_t at = 0; at < size;) {
        size_t start;
        const AddedToken *token = next_added(t, text + at, size - at, &start);
        TRY(encode_plain(t, match, text + at, start, ids, err));
        if (token) TRY(token_ids_push(ids, token->id, err));
        at += start + (token ? token->length : 0);
    }
    return 0;
}

int qwen_tokenizer_encode(const QwenTokenizer *t, const char *text, TokenIds *ids, Error *err) {
    size_t size = strlen(text), valid = utf8_valid_prefix(text, size), first = ids->n;
    if (valid < size)
        return fail(err, DRPO_E_INPUT, "prompt is not valid UTF-8 at byte %zu; save it as UTF-8", valid + 1);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(t->pattern, NULL);
    int code =
        match ? encode_all(t, match, text, size, ids, err) : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    pcre2_match_data_free(match);
    for (size_t i = first; code == 0 && i < ids->n; i++)
        if (ids->id[i] < 0) code = fail(err, DRPO_E_INPUT, "tokenizer: the vocabulary lacks a byte of the prompt");
    return code;
}
