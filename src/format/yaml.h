/* Flat YAML for configurations: `key: value` and `key: [a, b]` or a block list of scalars. */
#ifndef DRPO_FORMAT_YAML_H
#define DRPO_FORMAT_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Called once for a scalar and once for every item of a list. Plain `null`, `~` and nothing arrive as "". A negative
 * return stops the reading; yaml_read then puts "file:line: " in front of the message. */
typedef int (*YamlEntry)(void *user, const char *key, const char *value, int line, Error *err);

int yaml_read(const char *path, YamlEntry entry, void *user, Error *err);
int yaml_read_text(const char *name, const char *text, size_t size, YamlEntry entry, void *user, Error *err);

typedef struct YamlItem {
    const char *key;
    const char *const *values; /* exactly one unless `list` */
    size_t count;
    bool list;
} YamlItem;

/* Atomic. `comment` (lines separated by \n) goes on top, NULL: none. What yaml_read gives back is what was written. */
int yaml_write(const char *path, const char *comment, const YamlItem *items, size_t n, Error *err);

#endif
