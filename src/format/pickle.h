/* Pickles read as data: a tree of values, in which calls are recorded and never made.
 *
 * A pickle is a program for a stack machine; Python would import what it names and call it. Here every name must pass
 * `allowed` before anything else is looked at, and a call becomes a node with its function's name and its arguments. A
 * tree may share nodes and even contain itself (memo), so walkers must limit their depth. */
#ifndef DRPO_FORMAT_PICKLE_H
#define DRPO_FORMAT_PICKLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOL,      /* integer */
    PICKLE_INT,       /* integer; larger ones than fit are refused */
    PICKLE_FLOAT,     /* number */
    PICKLE_TEXT,      /* text: valid UTF-8 without zeros */
    PICKLE_BYTES,     /* content is not kept */
    PICKLE_TUPLE,     /* item[n] */
    PICKLE_LIST,      /* item[n]; sets too */
    PICKLE_DICT,      /* item[n]: key, value, key, value, ... */
    PICKLE_GLOBAL,    /* module, text */
    PICKLE_CALL,      /* called(arguments); item[n] are the pairs or elements put into it since */
    PICKLE_PERSISTENT /* arguments: what stands for an object that is stored elsewhere */
} PickleKind;

typedef struct PickleValue PickleValue;
struct PickleValue {
    PickleKind kind;
    union {
        int64_t integer;
        double number;
        const char *text;
    };
    const char *module;
    PickleValue **item;
    uint32_t n, room;
    PickleValue *called, *arguments;
};

typedef bool (*PickleAllowed)(const char *module, const char *name);

/* `name` is for messages; the tree lives in the arena. */
int pickle_read(const char *name, const uint8_t *data, size_t size, PickleAllowed allowed, Arena *a, PickleValue **out,
                Error *err);
bool pickle_is_call(const PickleValue *v, const char *module, const char *name);

#endif
