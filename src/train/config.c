/* Config: the table and the values of one verb. See config.h. */
#include "train/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/config_value.h"

enum {
    COMPARE = 1 << DRPO_COMPARE,
    SWEEP = 1 << DRPO_SWEEP,
    ONE_RUN = 1 << DRPO_TRAIN,
    TRAIN = ONE_RUN | COMPARE | SWEEP, /* which hand options down to their runs */
    SAMPLE = 1 << DRPO_SAMPLE,
    SCORE = 1 << DRPO_SCORE,
    EVAL = 1 << DRPO_EVAL,
    INSPECT = 1 << DRPO_INSPECT,
    PLAN = 1 << DRPO_PLAN,
    EXPORT = 1 << DRPO_EXPORT,
    REPORT = 1 << DRPO_REPORT,
    BENCH = 1 << DRPO_BENCH,
    DOCTOR = 1 << DRPO_DOCTOR,
    REWARDS = 1 << DRPO_REWARDS,
    GENEVAL = 1 << DRPO_GENEVAL,
    REPLAY = 1 << DRPO_REPLAY,
    PRETRAIN = 1 << DRPO_PRETRAIN
};

static const OptionInfo table[OPT_COUNT] = {
#define OPTION(id, key, type, initial, limits, aliases, verbs, metavar, group, help)                                   \
    {key, OPTION_##type, initial, limits, aliases, verbs, metavar, group, help},
#include "train/config_table.def"
#undef OPTION
};

static const char *const verb_names[DRPO_VERBS] = {
    [DRPO_TRAIN] = "train",     [DRPO_SAMPLE] = "sample",   [DRPO_SCORE] = "score",     [DRPO_EVAL] = "eval",
    [DRPO_INSPECT] = "inspect", [DRPO_PLAN] = "plan",       [DRPO_EXPORT] = "export",   [DRPO_REPORT] = "report",
    [DRPO_BENCH] = "bench",     [DRPO_DOCTOR] = "doctor",   [DRPO_REWARDS] = "rewards", [DRPO_GENEVAL] = "geneval",
    [DRPO_REPLAY] = "replay",   [DRPO_COMPARE] = "compare", [DRPO_SWEEP] = "sweep",     [DRPO_PRETRAIN] = "pretrain",
};

typedef struct Setting {
    char **item;
    int count;
    ConfigSource source;
    char *joined; /* items with commas between */
} Setting;

struct Config {
    drpo_verb verb;
    Setting setting[OPT_COUNT];
};

const OptionInfo *option_info(OptionId id) { return &table[id]; }

const char *verb_name(drpo_verb verb) { return verb_names[verb]; }

drpo_verb config_verb(const Config *c) { return c->verb; }

static void setting_clear(Setting *s) {
    for (int i = 0; i < s->count; i++) free(s->item[i]);
    free(s->item);
    free(s->joined);
    s->item = NULL;
    s->joined = NULL;
    s->count = 0;
}

/* Takes `text` over, also on failure. */
static int setting_append(Setting *s, char *text, Error *err) {
    size_t length = strlen(text) + 2 + (s->joined ? strlen(s->joined) : 0);
    char **items = realloc(s->item, sizeof *items * (size_t)(s->count + 1));
    if (items) s->item = items;
    char *joined = malloc(length);
    if (!items || !joined) {
        free(joined);
        free(text);
        return fail(err, DRPO_E_MEMORY, "out of memory for an option's value");
    }
    snprintf(joined, length, "%s%s%s", s->joined ? s->joined : "", s->count ? "," : "", text);
    free(s->joined);
    s->joined = joined;
    s->item[s->count++] = text;
    return 0;
}

static int append_checked(Setting *s, const OptionInfo *info, const char *value, Error *err) {
    char *text = value_canonical(info, value, err);
    return text ? setting_append(s, text, err) : err->code;
}

/* Nothing written in a file or table means an empty list; given as a flag it is an item (the empty prompt). */
static int append_value(Setting *s, const OptionInfo *info, const char *value, Error *err) {
    if (value_is_list(info->type) && value[0] == 0 && s->source != SOURCE_FLAG) return 0;
    if (!value_splits(info->type)) return append_checked(s, info, value, err);
    char *copy = strdup(value), *rest = NULL;
    if (!copy) return fail(err, DRPO_E_MEMORY, "out of memory for --%s", info->key);
    int code = 0;
    for (char *word = strtok_r(copy, ", ", &rest); word && code == 0; word = strtok_r(NULL, ", ", &rest))
        code = append_checked(s, info, word, err);
    free(copy);
    return code;
}

static int setting_set(Setting *s, const OptionInfo *info, const char *value, ConfigSource source, Error *err) {
    if (source < s->source) return 0;
    Setting next = {.source = source};
    bool append = value_is_list(info->type) && source == s->source && source != SOURCE_DEFAULT;
    int code = 0;
    for (int i = 0; append && i < s->count && code == 0; i++) {
        char *copy = strdup(s->item[i]);
        code = copy ? setting_append(&next, copy, err) : fail(err, DRPO_E_MEMORY, "out of memory for --%s", info->key);
    }
    if (code == 0) code = append_value(&next, info, value, err);
    if (code < 0) {
        setting_clear(&next);
        return code;
    }
    setting_clear(s);
    *s = next;
    return 0;
}

Config *config_new(drpo_verb verb) {
    Config *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->verb = verb;
    Error err = {0};
    for (int id = 0; id < OPT_COUNT; id++) {
        if (setting_set(&c->setting[id], &table[id], table[id].initial, SOURCE_DEFAULT, &err) < 0) {
            config_free(c);
            return NULL;
        }
    }
    return c;
}

void config_free(Config *c) {
    if (!c) return;
    for (int id = 0; id < OPT_COUNT; id++) setting_clear(&c->setting[id]);
    free(c);
}

OptionId config_find(drpo_verb verb, const char *key) {
    for (int id = 0; id < OPT_COUNT; id++)
        if ((table[id].verbs & 1u << verb) && option_answers_to(&table[id], key)) return (OptionId)id;
    return OPT_COUNT;
}

/* Says which verb an option belongs to, or which option was probably meant. */
static int fail_unknown(const Config *c, const char *key, Error *err) {
    for (int verb = 0; verb < DRPO_VERBS; verb++)
        if (config_find((drpo_verb)verb, key) != OPT_COUNT)
            return fail(err, DRPO_E_USAGE, "--%s belongs to 'drpo %s', not to 'drpo %s'", key, verb_names[verb],
                        verb_names[c->verb]);
    Arena *a = arena_new();
    const char *near = a ? option_nearest(c->verb, key, a) : NULL;
    if (near)
        fail(err, DRPO_E_USAGE, "unknown option --%s; did you mean --%s?", key, near);
    else
        fail(err, DRPO_E_USAGE, "unknown option --%s; 'drpo %s --help' lists them", key, verb_names[c->verb]);
    arena_free(a);
    return DRPO_E_USAGE;
}

int config_set(Config *c, const char *key, const char *value, ConfigSource source, Error *err) {
    Error local = {0};
    Error *e = err ? err : &local;
    OptionId id = config_find(c->verb, key);
    if (id == OPT_COUNT && key[0] == 0) { /* an argument without a flag */
        for (int i = 0; i < OPT_COUNT && id == OPT_COUNT; i++)
            if (table[i].type == OPTION_FILES && (table[i].verbs & 1u << c->verb)) id = (OptionId)i;
        if (id == OPT_COUNT)
            return fail(e, DRPO_E_USAGE, "'%s' is not an option; 'drpo %s' takes no arguments without a flag", value,
                        verb_names[c->verb]);
    }
    if (id == OPT_COUNT) return fail_unknown(c, key, e);
    return setting_set(&c->setting[id], &table[id], value, source, e);
}

bool config_has(const Config *c, OptionId id) { return table[id].verbs & 1u << c->verb; }

ConfigSource config_source(const Config *c, OptionId id) { return c->setting[id].source; }

const char *config_text(const Config *c, OptionId id) {
    const char *text = c->setting[id].joined;
    return text ? text : "";
}

long long config_int(const Config *c, OptionId id) { return strtoll(config_text(c, id), NULL, 10); }

double config_float(const Config *c, OptionId id) { return strtod(config_text(c, id), NULL); }

bool config_bool(const Config *c, OptionId id) { return strcmp(config_text(c, id), "true") == 0; }

size_t config_bytes(const Config *c, OptionId id) {
    size_t bytes = 0;
    value_parse_bytes(config_text(c, id), &bytes);
    return bytes;
}

int config_choice(const Config *c, OptionId id) { return value_choice(table[id].limits, config_text(c, id)); }

int config_count(const Config *c, OptionId id) { return c->setting[id].count; }

const char *config_item(const Config *c, OptionId id, int i) {
    return i >= 0 && i < c->setting[id].count ? c->setting[id].item[i] : "";
}

int config_numbers(const Config *c, OptionId id, float *out, int max) {
    int n = c->setting[id].count;
    for (int i = 0; i < n && i < max; i++) out[i] = strtof(c->setting[id].item[i], NULL);
    return n;
}
