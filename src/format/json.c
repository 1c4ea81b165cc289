/* JSON through jansson, with errors that name the file, the line or the key. */
#include "format/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"

enum { JSON_FILE_LIMIT = 256 << 20 };

int json_load_text(const char *name, const char *text, size_t size, json_t **out, Error *err) {
    json_error_t where;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (*out) return 0;
    if (json_error_code(&where) == json_error_out_of_memory)
        return fail(err, DRPO_E_MEMORY, "%s: not enough memory to read it", name);
    return fail(err, DRPO_E_INPUT, "%s: line %d, column %d: not valid JSON: %s", name, where.line, where.column,
                where.text);
}

int json_load_path(const char *path, json_t **out, Error *err) {
    *out = NULL;
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "%s: not enough memory to read it", path);
    char *text = NULL;
    size_t size = 0;
    int code = file_read_text(path, JSON_FILE_LIMIT, a, &text, &size, err);
    if (code == 0 && size == 0) code = fail(err, DRPO_E_INPUT, "%s: the file is empty", path);
    if (code == 0) code = json_load_text(path, text, size, out, err);
    if (code == 0 && !json_is_object(*out) && !json_is_array(*out)) {
        json_decref(*out);
        *out = NULL;
        code = fail(err, DRPO_E_INPUT, "%s: holds neither a JSON object nor a list", path);
    }
    arena_free(a);
    return code;
}

int json_save_path(const char *path, const json_t *value, Error *err) {
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!text)
        return fail(err, DRPO_E_MEMORY, "%s: cannot be put together (memory, or a number that is not finite)", path);
    size_t length = strlen(text);
    text[length] = '\n'; /* in place of the terminating 0, which is not written */
    int code = file_write_atomic(path, text, length + 1, err);
    free(text);
    return code;
}

static const json_t *lookup(const JsonReader *r, const char *key) {
    const json_t *value = json_object_get(r->object, key);
    return json_is_null(value) ? NULL : value;
}

static void wrong_type(const JsonReader *r, const char *key, const char *wanted) {
    fail(r->err, DRPO_E_INPUT, "%s: key \"%s\" must be %s", r->where, key, wanted);
}

int64_t json_get_int(const JsonReader *r, const char *key, int64_t fallback) {
    const json_t *value = lookup(r, key);
    if (!value) return fallback;
    if (json_is_integer(value)) return json_integer_value(value);
    wrong_type(r, key, "an integer");
    return fallback;
}

double json_get_number(const JsonReader *r, const char *key, double fallback) {
    const json_t *value = lookup(r, key);
    if (!value) return fallback;
    if (json_is_number(value)) return json_number_value(value);
    wrong_type(r, key, "a number");
    return fallback;
}

bool json_get_bool(const JsonReader *r, const char *key, bool fallback) {
    const json_t *value = lookup(r, key);
    if (!value) return fallback;
    if (json_is_boolean(value)) return json_is_true(value);
    wrong_type(r, key, "true or false");
    return fallback;
}

const char *json_get_string(const JsonReader *r, const char *key, const char *fallback) {
    const json_t *value = lookup(r, key);
    if (!value) return fallback;
    if (json_is_string(value)) return json_string_value(value);
    wrong_type(r, key, "a text");
    return fallback;
}

/* Length of the list at `key`, 0 after any error. */
static size_t list_length(const JsonReader *r, const char *key, size_t max) {
    const json_t *value = lookup(r, key);
    if (!value) return 0;
    size_t length = json_is_array(value) ? json_array_size(value) : 1;
    if (length <= max) return length;
    fail(r->err, DRPO_E_INPUT, "%s: key \"%s\" has %zu entries, at most %zu are supported", r->where, key, length, max);
    return 0;
}

static const json_t *list_item(const JsonReader *r, const char *key, size_t i) {
    const json_t *value = lookup(r, key);
    return json_is_array(value) ? json_array_get(value, i) : value;
}

size_t json_get_ints(const JsonReader *r, const char *key, int64_t *out, size_t max) {
    size_t length = list_length(r, key, max);
    for (size_t i = 0; i < length; i++) {
        const json_t *item = list_item(r, key, i);
        if (!json_is_integer(item)) return wrong_type(r, key, "an integer or a list of integers"), 0;
        out[i] = json_integer_value(item);
    }
    return length;
}

size_t json_get_numbers(const JsonReader *r, const char *key, double *out, size_t max) {
    size_t length = list_length(r, key, max);
    for (size_t i = 0; i < length; i++) {
        const json_t *item = list_item(r, key, i);
        if (!json_is_number(item)) return wrong_type(r, key, "a number or a list of numbers"), 0;
        out[i] = json_number_value(item);
    }
    return length;
}

size_t json_get_strings(const JsonReader *r, const char *key, const char **out, size_t max) {
    size_t length = list_length(r, key, max);
    for (size_t i = 0; i < length; i++) {
        const json_t *item = list_item(r, key, i);
        if (!json_is_string(item)) return wrong_type(r, key, "a text or a list of texts"), 0;
        out[i] = json_string_value(item);
    }
    return length;
}

bool json_has(const JsonReader *r, const char *key) { return lookup(r, key) != NULL; }

void json_require(const JsonReader *r, const char *key) {
    if (!json_has(r, key)) fail(r->err, DRPO_E_INPUT, "%s: key \"%s\" is missing", r->where, key);
}

int json_finish(const JsonReader *r) { return r->err->code; }
