/* Config: the options of one verb with their values and where each came from. Built from the one table
 * config_table.def.
 *
 * Values are kept as checked text; the getters turn them into numbers. A source that ranks higher replaces what a lower
 * one said: default, the resumed run's config.yaml, --config FILE, command line. */
#ifndef DRPO_TRAIN_CONFIG_H
#define DRPO_TRAIN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef enum OptionType {
    OPTION_TEXT,
    OPTION_INT,
    OPTION_FLOAT,
    OPTION_BOOL,
    OPTION_CHOICE,
    OPTION_LIST,    /* texts; every use appends */
    OPTION_NUMBERS, /* numbers separated by commas */
    OPTION_NAMES,   /* texts separated by commas */
    OPTION_BYTES,   /* 512M, 2G */
    OPTION_FILES    /* arguments without a flag */
} OptionType;

typedef enum OptionId {
#define OPTION(id, ...) OPT_##id,
#include "train/config_table.def"
#undef OPTION
    OPT_COUNT
} OptionId;

typedef struct OptionInfo {
    const char *key;
    OptionType type;
    const char *initial, *limits, *aliases;
    unsigned verbs; /* bit 1 << drpo_verb */
    const char *metavar, *group, *help;
} OptionInfo;

const OptionInfo *option_info(OptionId id);
const char *verb_name(drpo_verb verb);

typedef enum ConfigSource { SOURCE_DEFAULT, SOURCE_RUN, SOURCE_FILE, SOURCE_FLAG } ConfigSource;

typedef struct Config Config;

Config *config_new(drpo_verb verb); /* NULL when out of memory */
void config_free(Config *c);
drpo_verb config_verb(const Config *c);
/* `key` without dashes, '-' and '_' alike, aliases included. */
int config_set(Config *c, const char *key, const char *value, ConfigSource source, Error *err);
/* Flags and arguments as on the command line. */
int config_parse(Config *c, int argc, const char *const *argv, Error *err);
/* A YAML file; keys as flags. */
int config_load(Config *c, const char *path, ConfigSource source, Error *err);
/* Reads the file of --config, if one is given; options that were not given take the defaults of --method. */
int config_resolve(Config *c, Error *err);
/* The defaults of --method where they are not the table's. */
int config_method_defaults(Config *c, Error *err);
/* Checks that need more than one option, or the file system. */
int config_check(const Config *c, Error *err);

OptionId config_find(drpo_verb verb, const char *key); /* OPT_COUNT: unknown */
bool config_has(const Config *c, OptionId id);         /* an option of this verb */
ConfigSource config_source(const Config *c, OptionId id);
const char *config_text(const Config *c, OptionId id); /* lists: joined by commas; never NULL */
long long config_int(const Config *c, OptionId id);
double config_float(const Config *c, OptionId id);
bool config_bool(const Config *c, OptionId id);
size_t config_bytes(const Config *c, OptionId id);
int config_choice(const Config *c, OptionId id); /* index into the choices */
int config_count(const Config *c, OptionId id);  /* items of a list */
const char *config_item(const Config *c, OptionId id, int i);
int config_numbers(const Config *c, OptionId id, float *out, int max); /* returns how many */

/* Resolved options as YAML, atomically. */
int config_write(const Config *c, const char *path, Error *err);
/* Options that decide the course of a run (not where it is written, how long, or on how many threads). */
bool config_is_method(OptionId id);
/* SHA-256 of the resolved text of those that differ from their defaults: an option added later changes no hash. */
void config_hash(const Config *c, char hex[65]);
/* "drpo train --steps 40 ...": the options that were given, so that a shell repeats the run. NULL when out of memory.
 */
char *config_command(const Config *c, Arena *a);

/* Both are released with free(). */
char *config_help(drpo_verb verb, const char *program);
char *config_reference(void);

/* Where embedded models and prompts live: `name` itself when it exists, else below $DRPO_ASSETS, <program>/../assets,
 * <program>/../share/drpo/assets or the source folder. Returns `name` when nowhere. */
const char *asset_find(const char *name, Arena *a);

#endif
