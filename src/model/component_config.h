/* What a component's config.json may say. A key that changes the network must be understood, or the images would
 * silently be wrong: keys outside the table, and values outside the accepted ones, are errors that name file, key and
 * value. */
#ifndef DRPO_MODEL_COMPONENT_CONFIG_H
#define DRPO_MODEL_COMPONENT_CONFIG_H

#include "engine/graph.h"
#include "format/json.h"

typedef struct ConfigRule {
    const char *key;
    const char
        *accepted; /* JSON values separated by '|', e.g. "null|false"; NULL: any, the reader looks at it itself */
} ConfigRule;

/* Reads one component's config.json: `reader` fills `config`. `document` is a path, or the JSON text itself. */
typedef int (*ComponentReader)(const JsonReader *r, void *config);
int component_read(const char *document, ComponentReader reader, void *config, Error *err);
/* A document that is a path or, when it begins with "{", JSON text. *where: what messages call it. */
int document_load(const char *document, json_t **out, const char **where, Error *err);
/* Error when the file says ("_class_name", or "architectures") that it describes something else than `wanted`. */
int component_class(const JsonReader *r, const char *wanted);
/* Keys that begin with "_" are notes of the program that wrote the file and pass. */
int component_check(const JsonReader *r, const ConfigRule *rules, size_t n);
/* "silu", "swish", "gelu", "relu", ... ; an unknown name is an error. A missing key gives `fallback`. */
int component_act(const JsonReader *r, const char *key, Act fallback, Act *out);
/* One integer for all, or a list of exactly `n`; a missing key gives `fallback` to all. Every value lies in [low,
 * high]. */
int component_ints(const JsonReader *r, const char *key, int64_t fallback, int low, int high, int *out, int n);
/* The same for a single integer. */
int component_int(const JsonReader *r, const char *key, int64_t fallback, int low, int high, int *out);
/* out[i] tells whether list entry i is `yes`; it must be `no` otherwise. `no` NULL: every entry must be `yes`. The list
 * has n entries. */
int component_choices(const JsonReader *r, const char *key, const char *yes, const char *no, bool *out, int n);

#endif
