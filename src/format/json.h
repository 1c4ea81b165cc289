/* JSON through jansson, with errors that name the file, the line or the key.
 *
 *     json_t *root;
 *     TRY(json_load_path(path, &root, err));
 *     JsonReader r = {root, path, err};
 *     config->layers = json_get_int(&r, "layers", 2);      a wrong type is remembered in *err, the fallback returned
 *     json_require(&r, "in_channels");
 *     int code = json_finish(&r);                          0, or the code of the first mistake
 *     json_decref(root); */
#ifndef DRPO_FORMAT_JSON_H
#define DRPO_FORMAT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* An object or array; duplicate keys are an error. The caller releases it with json_decref. */
int json_load_path(const char *path, json_t **out, Error *err);
/* `name` is for messages. Any JSON value is accepted. */
int json_load_text(const char *name, const char *text, size_t size, json_t **out, Error *err);
/* Atomic, indented, keys in their order. */
int json_save_path(const char *path, const json_t *value, Error *err);

typedef struct JsonReader {
    const json_t *object;
    const char *where; /* file, or file and section, for messages */
    Error *err;        /* not NULL */
} JsonReader;

/* A missing key and null give the fallback without an error. */
int64_t json_get_int(const JsonReader *r, const char *key, int64_t fallback);
double json_get_number(const JsonReader *r, const char *key, double fallback);
bool json_get_bool(const JsonReader *r, const char *key, bool fallback);
const char *json_get_string(const JsonReader *r, const char *key, const char *fallback); /* owned by the object */
/* Lists; one value counts as a list of one. Returns the length, 0 when the key is missing; more than `max` is an error.
 */
size_t json_get_ints(const JsonReader *r, const char *key, int64_t *out, size_t max);
size_t json_get_numbers(const JsonReader *r, const char *key, double *out, size_t max);
size_t json_get_strings(const JsonReader *r, const char *key, const char **out, size_t max);
bool json_has(const JsonReader *r, const char *key);     /* present and not null */
void json_require(const JsonReader *r, const char *key); /* error unless json_has */
int json_finish(const JsonReader *r);

#endif
