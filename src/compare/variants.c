/* Variants: --methods and --set, or the grid of --vary, as option sets of `drpo train`. See compare.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "compare/compare.h"

/* What the comparison itself decides. */
static bool is_decided(drpo_verb verb, OptionId id) {
    return !(option_info(id)->verbs & 1u << verb) || id == OPT_SEED || id == OPT_CONFIG;
}

static int find_key(const char *option, const char *key, drpo_verb verb, OptionId *id, Error *err) {
    *id = config_find(DRPO_TRAIN, key);
    if (*id == OPT_COUNT && key[0] && !key[1]) { /* K */
        const char lower[2] = {(char)tolower((unsigned char)key[0]), 0};
        *id = config_find(DRPO_TRAIN, lower);
    }
    if (*id == OPT_COUNT) return fail(err, DRPO_E_USAGE, "--%s: '%s' is no option of drpo train", option, key);
    if (is_decided(verb, *id))
        return fail(err, DRPO_E_USAGE, "--%s: drpo %s itself decides --%s", option, verb_name(verb),
                    option_info(*id)->key);
    return 0;
}

const char *folder_name(Arena *a, const char *text) {
    char *name = arena_strdup(a, text);
    for (char *p = name; p && *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._=,+-", *p)) *p = '-';
    if (name && strlen(name) > 96) { /* told apart by a few letters of the hash of the whole */
        char hex[65];
        sha256_hex(text, strlen(text), hex);
        name = arena_printf(a, "%.80s-%.12s", name, hex);
    }
    return name;
}

int variant_override(Variant *v, const char *key, const char *value, Error *err) {
    if (v->overrides == MAX_OVERRIDES)
        return fail(err, DRPO_E_USAGE, "%s: more than %d options of its own", v->name, MAX_OVERRIDES);
    v->override[v->overrides++] = (Override){key, value};
    return 0;
}

static int add_variant(Comparison *c, const char *name, Variant **out, Error *err) {
    if (c->variants == MAX_VARIANTS)
        return fail(err, DRPO_E_USAGE, "more than %d variants to compare; take fewer values", MAX_VARIANTS);
    Variant *v = &c->variant[c->variants];
    *v = (Variant){.name = arena_strdup(c->arena, name), .slug = folder_name(c->arena, name)};
    if (!v->name || !v->slug) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int i = 0; i < c->variants; i++)
        if (strcmp(c->variant[i].slug, v->slug) == 0 || strcmp(v->slug, "tune") == 0)
            return fail(err, DRPO_E_USAGE, "two variants are called '%s'; give each a name of its own", name);
    c->variants++;
    *out = v;
    return 0;
}

/* ---- compare ---- */

/* "NAME:KEY=VALUE" */
static int apply_set(Comparison *c, const char *text, Error *err) {
    char *copy = arena_strdup(c->arena, text);
    if (!copy) return fail(err, DRPO_E_MEMORY, "out of memory");
    char *colon = strchr(copy, ':'), *equals = colon ? strchr(colon, '=') : NULL;
    if (!equals) return fail(err, DRPO_E_USAGE, "--set %s: write it as NAME:KEY=VALUE, such as dpo:lr=3e-4", text);
    *colon = *equals = 0;
    OptionId id;
    TRY(find_key("set", colon + 1, DRPO_COMPARE, &id, err));
    for (int i = 0; i < c->variants; i++)
        if (strcmp(c->variant[i].name, copy) == 0)
            return variant_override(&c->variant[i], option_info(id)->key, equals + 1, err);
    return fail(err, DRPO_E_USAGE, "--set %s: '%s' is not named by --methods %s", text, copy,
                config_text(c->job->config, OPT_METHODS));
}

static bool names_method(const char *name) {
    Config *probe = config_new(DRPO_TRAIN);
    bool known = probe && config_set(probe, "method", name, SOURCE_FLAG, NULL) == 0;
    config_free(probe);
    return known;
}

int variants_of_methods(Comparison *c, Error *err) {
    const Config *config = c->job->config;
    if (config_source(config, OPT_METHOD) != SOURCE_DEFAULT)
        return fail(err, DRPO_E_USAGE, "--method: drpo compare takes several, name them with --methods");
    for (int i = 0; i < config_count(config, OPT_METHODS); i++) {
        Variant *v;
        const char *name = config_item(config, OPT_METHODS, i);
        TRY(add_variant(c, name, &v, err));
        if (names_method(name)) TRY(variant_override(v, "method", name, err));
    }
    for (int i = 0; i < config_count(config, OPT_SET); i++) TRY(apply_set(c, config_item(config, OPT_SET, i), err));
    if (c->variants == 0) return fail(err, DRPO_E_USAGE, "--methods names nothing to compare");
    for (int i = 0; i < c->variants; i++)
        if (c->variant[i].overrides == 0)
            return fail(err, DRPO_E_USAGE,
                        "--methods: '%s' is no method; what it stands for is said with --set %s:KEY=VALUE",
                        c->variant[i].name, c->variant[i].name);
    return 0;
}

/* ---- sweep ---- */

int vary_parse(const char *text, const char *option, drpo_verb verb, Arena *a, const char **key, const char **values,
               int max, int *n, Error *err) {
    char *copy = arena_strdup(a, text), *rest = NULL;
    if (!copy) return fail(err, DRPO_E_MEMORY, "out of memory");
    char *equals = strchr(copy, '=');
    if (!equals)
        return fail(err, DRPO_E_USAGE, "--%s %s: write it as KEY=VALUE,VALUE,..., such as lr=1e-4,3e-4", option, text);
    *equals = 0;
    OptionId id;
    TRY(find_key(option, copy, verb, &id, err));
    *key = option_info(id)->key;
    *n = 0;
    const char *separator = strchr(equals + 1, ';') ? ";" : ",";
    for (char *word = strtok_r(equals + 1, separator, &rest); word; word = strtok_r(NULL, separator, &rest)) {
        if (*n == max) return fail(err, DRPO_E_USAGE, "--%s %s: more than %d values", option, text, max);
        values[(*n)++] = word + strspn(word, " ");
    }
    return *n ? 0 : fail(err, DRPO_E_USAGE, "--%s %s: no value", option, text);
}

typedef struct Axis {
    const char *key, *value[MAX_VARIANTS];
    int values;
} Axis;

enum { MAX_AXES = 8 };

static int add_point(Comparison *c, const Axis *axis, int axes, const int *at, Error *err) {
    Variant *v;
    const char *name = "";
    for (int i = 0; i < axes && name; i++)
        name = arena_printf(c->arena, "%s%s%s=%s", name, i ? " " : "", axis[i].key, axis[i].value[at[i]]);
    if (!name) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(add_variant(c, name, &v, err));
    for (int i = 0; i < axes; i++) TRY(variant_override(v, axis[i].key, axis[i].value[at[i]], err));
    return 0;
}

int variants_of_grid(Comparison *c, Error *err) {
    const Config *config = c->job->config;
    int axes = config_count(config, OPT_VARY), at[MAX_AXES] = {0};
    if (axes == 0) return fail(err, DRPO_E_USAGE, "nothing to vary: give --vary KEY=VALUE,VALUE,...");
    if (axes > MAX_AXES) return fail(err, DRPO_E_USAGE, "--vary: more than %d options", MAX_AXES);
    Axis *axis = arena_alloc(c->arena, sizeof *axis * (size_t)axes);
    if (!axis) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int i = 0; i < axes; i++) {
        TRY(vary_parse(config_item(config, OPT_VARY, i), "vary", DRPO_SWEEP, c->arena, &axis[i].key, axis[i].value,
                       MAX_VARIANTS, &axis[i].values, err));
        for (int k = 0; k < i; k++)
            if (strcmp(axis[k].key, axis[i].key) == 0)
                return fail(err, DRPO_E_USAGE, "--vary names %s twice", axis[i].key);
    }
    for (;;) { /* the last axis turns fastest */
        TRY(add_point(c, axis, axes, at, err));
        int i = axes - 1;
        while (i >= 0 && ++at[i] == axis[i].values) at[i--] = 0;
        if (i < 0) return 0;
    }
}

/* ---- options of a run ---- */

/* What was given to the comparison is as if it stood in the run's --config; a variant's own options win. */
static int hand_down(const Config *from, Config *to, Error *err) {
    for (int i = 0; i < OPT_COUNT; i++) {
        OptionId id = (OptionId)i;
        const OptionInfo *info = option_info(id);
        if (!(info->verbs & 1u << DRPO_TRAIN) || !config_has(from, id) || id == OPT_CONFIG) continue;
        if (config_source(from, id) == SOURCE_DEFAULT) continue;
        bool each = info->type == OPTION_LIST;
        for (int k = 0; k < (each ? config_count(from, id) : 1); k++)
            TRY(config_set(to, info->key, each ? config_item(from, id, k) : config_text(from, id), SOURCE_FILE, err));
    }
    return 0;
}

/* Checkpoints to evaluate at the time of the fastest: a tenth of the run apart, all kept. */
static int set_checkpoints(const Config *from, Config *to, Error *err) {
    char every[32];
    if (config_choice(from, OPT_SAME_TIME) != TIMED_CHECKPOINT) return 0;
    long long steps = config_int(to, OPT_STEPS);
    snprintf(every, sizeof every, "%lld", (steps + 9) / 10);
    if (config_source(from, OPT_CHECKPOINT_EVERY) == SOURCE_DEFAULT)
        TRY(config_set(to, "checkpoint-every", every, SOURCE_FILE, err));
    return config_source(from, OPT_KEEP) == SOURCE_DEFAULT ? config_set(to, "keep", "0", SOURCE_FILE, err) : 0;
}

int variant_config(const Comparison *c, const Variant *v, Config **out, Error *err) {
    *out = config_new(DRPO_TRAIN);
    if (!*out) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = hand_down(c->job->config, *out, err);
    for (int i = 0; i < v->overrides && code == 0; i++)
        code = config_set(*out, v->override[i].key, v->override[i].value, SOURCE_FLAG, err);
    if (code == 0) code = set_checkpoints(c->job->config, *out, err);
    if (code == 0) code = config_resolve(*out, err);
    if (code == 0) return 0;
    config_free(*out);
    *out = NULL;
    return fail_in(err, "%s", v->name);
}
