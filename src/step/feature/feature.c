/* Feature: parses the specification, opens the maps and appends their keys to a graph. Between generate and drift. */
#include "step/feature/feature.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/feature/feature_map.h"

enum { MAX_MAPS = 4 };

static const FeatureKind *const kinds[] = {&latent_map, &resnet_map, &teacher_map, &dinov2_map, &vitmae_map};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct Part {
    FeatureMaps *maps;
    FeaturePart part;
} Part;

struct FeatureMaps {
    Arena *arena;
    FeatureMap map[MAX_MAPS + 1]; /* those behind the generator, those aside, then the anchor, if any */
    int maps;
    bool anchor;
    Part part[3];
};

/* ---- options ---- */
const char *feature_option(const FeatureMap *m, const char *name, const char *fallback) {
    for (int i = 0; i < m->n_options; i++)
        if (strcmp(m->option[i], name) == 0) return m->value[i];
    return fallback;
}

int feature_number(const FeatureMap *m, const char *name, double fallback, double low, double high, double *out,
                   Error *err) {
    const char *text = feature_option(m, name, NULL);
    char *end = NULL;
    *out = text ? strtod(text, &end) : fallback;
    if (!text || (end != text && *end == 0 && *out >= low && *out <= high)) return 0;
    return fail(err, DRPO_E_USAGE, "--features %s: %s=%s must be a number from %g to %g", m->spec, name, text, low,
                high);
}

int feature_flag(const FeatureMap *m, const char *name, bool *out, Error *err) {
    const char *text = feature_option(m, name, "false");
    *out = strcmp(text, "true") == 0;
    if (*out || strcmp(text, "false") == 0) return 0;
    return fail(err, DRPO_E_USAGE, "--features %s: %s=%s must be true or false", m->spec, name, text);
}

/* `name` begins a word of the kind's list and is followed by '='. */
static bool is_option(const FeatureKind *kind, const char *name) {
    const size_t n = strlen(name);
    for (const char *at = kind->options; (at = strstr(at, name)); at += n)
        if ((at == kind->options || at[-1] == ' ') && at[n] == '=') return true;
    return false;
}

static int parse_options(FeatureMap *map, char *text, const char **keys, Error *err) {
    char *rest = NULL;
    for (char *option = strtok_r(text, "&", &rest); option; option = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(option, '=');
        if (value) *value++ = 0;
        if (!value || map->n_options == MAX_FEATURE_OPTIONS ||
            (strcmp(option, "keys") != 0 && !is_option(map->kind, option)))
            return fail(err, DRPO_E_USAGE, "--features %s: unknown option '%s'; %s takes: keys=K,K,... %s", map->spec,
                        option, map->kind->name, map->kind->options);
        if (strcmp(option, "keys") == 0) {
            *keys = value;
            continue;
        }
        map->option[map->n_options] = option;
        map->value[map->n_options++] = value;
    }
    return 0;
}

static int split_keys(FeatureMap *map, const char *list, Error *err) {
    char *copy = arena_strdup(map->arena, list), *rest = NULL;
    if (!copy) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    for (char *key = strtok_r(copy, ",", &rest); key; key = strtok_r(NULL, ",", &rest)) {
        if (map->keys == MAX_FEATURE_KEYS)
            return fail(err, DRPO_E_USAGE, "--features %s: at most %d keys", map->spec, MAX_FEATURE_KEYS);
        map->key[map->keys++] = key;
    }
    if (map->keys == 0) return fail(err, DRPO_E_USAGE, "--features %s: 'keys=' names no key", map->spec);
    return 0;
}

static const FeatureKind *find_kind(const char *name) {
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0 || (kinds[i]->alias && strcmp(kinds[i]->alias, name) == 0))
            return kinds[i];
    return NULL;
}

static int unknown_map(const char *spec, const char *name, Error *err) {
    char known[256] = "";
    for (int i = 0, used = 0; i < KINDS && used < (int)sizeof known; i++)
        used += snprintf(known + used, sizeof known - (size_t)used, "%s%s%s%s", i ? ", " : "", kinds[i]->name,
                         kinds[i]->argument ? ":" : "", kinds[i]->argument ? kinds[i]->argument : "");
    return fail(err, DRPO_E_USAGE, "--features %s: unknown map '%s' (%s)", spec, name, known);
}

/* One NAME[:PATH][?options]. */
static int open_map(FeatureMaps *m, char *text, FeatureMap *map, Error *err) {
    const char *keys = NULL;
    char *options = strchr(text, '?');
    if (options) *options++ = 0;
    char *path = strchr(text, ':');
    if (path) *path++ = 0;
    map->arena = m->arena;
    map->path = path ? path : "";
    map->kind = find_kind(text);
    if (!map->kind) return unknown_map(map->spec, text, err);
    if ((map->kind->argument != NULL) != (map->path[0] != 0))
        return fail(err, DRPO_E_USAGE, "--features %s: %s %s%s", map->spec, text,
                    map->kind->argument ? "needs its weights: " : "takes no path, give ", text);
    if (options) TRY(parse_options(map, options, &keys, err));
    TRY(split_keys(map, keys ? keys : map->kind->keys, err));
    return map->kind->open ? map->kind->open(map, err) : 0;
}

/* Maps aside come after the others: a pass computes keys that follow one another. */
static int open_all(FeatureMaps *m, const char *spec, FeatureMap start, Error *err) {
    for (int aside = 0; aside < 2; aside++) {
        char *copy = arena_strdup(m->arena, spec), *rest = NULL;
        if (!copy) return fail(err, DRPO_E_MEMORY, "features: out of memory");
        for (char *text = strtok_r(copy, "+", &rest); text; text = strtok_r(NULL, "+", &rest)) {
            char name[32] = "";
            snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ":?"), text);
            const FeatureKind *kind = find_kind(name);
            if ((kind && kind->aside) != aside) continue;
            if (m->maps == MAX_MAPS) return fail(err, DRPO_E_USAGE, "--features %s: at most %d maps", spec, MAX_MAPS);
            m->map[m->maps] = start;
            TRY(open_map(m, text, &m->map[m->maps++], err));
        }
    }
    if (m->maps == 0) return fail(err, DRPO_E_USAGE, "--features is empty: name a map, e.g. latent or resnet:FOLDER");
    if (feature_maps_count(m) >= MAX_FEATURE_KEYS)
        return fail(err, DRPO_E_USAGE, "--features %s: fewer than %d keys, please", spec, MAX_FEATURE_KEYS);
    return 0;
}

int feature_maps_open(const char *spec, Pipeline *p, int height, int width, bool anchor, FeatureMaps **out,
                      Error *err) {
    FeatureMaps *m = calloc(1, sizeof *m);
    if (!m || !(m->arena = arena_new())) {
        free(m);
        return fail(err, DRPO_E_MEMORY, "features: out of memory");
    }
    const FeatureMap start = {.spec = spec, .pipeline = p, .height = height, .width = width, .arena = m->arena};
    int code = spec ? open_all(m, spec, start, err) : 0;
    if (code < 0) {
        feature_maps_close(m);
        return code;
    }
    m->anchor = anchor || feature_maps_aside(m) > 0;
    if (m->anchor) {
        m->map[m->maps] = start;
        m->map[m->maps].kind = &latent_map;
        m->map[m->maps].path = "";
        m->map[m->maps].key[0] = "latent";
        m->map[m->maps++].keys = 1;
    }
    *out = m;
    return 0;
}

void feature_maps_close(FeatureMaps *m) {
    if (!m) return;
    for (int i = 0; i < m->maps; i++) {
        if (m->map[i].kind && m->map[i].kind->close) m->map[i].kind->close(&m->map[i]);
        weights_free(m->map[i].weights);
    }
    arena_free(m->arena);
    free(m);
}

/* ---- what there is ---- */
static bool is_in(const FeatureMaps *m, int i, FeaturePart part) {
    const bool anchor = m->anchor && i == m->maps - 1, aside = m->map[i].kind->aside;
    return part == FEATURES_ALL ? !anchor : aside == (part == FEATURES_ASIDE);
}

static int count_part(const FeatureMaps *m, FeaturePart part) {
    int n = 0;
    for (int i = 0; i < m->maps; i++)
        if (is_in(m, i, part)) n += m->map[i].keys;
    return n;
}

int feature_maps_count(const FeatureMaps *m) {
    int n = 0;
    for (int i = 0; i < m->maps; i++) n += m->map[i].keys;
    return n;
}

int feature_maps_aside(const FeatureMaps *m) { return count_part(m, FEATURES_ASIDE); }

bool feature_maps_is_anchor(const FeatureMaps *m, int i) { return m->anchor && i == feature_maps_count(m) - 1; }

bool feature_maps_redraws(const FeatureMaps *m) {
    for (int i = 0; i < m->maps; i++)
        if (m->map[i].kind->redraws && m->map[i].kind->redraws(&m->map[i])) return true;
    return false;
}

const char *feature_maps_key(const FeatureMaps *m, int i) {
    for (int j = 0; j < m->maps; j++) {
        if (i < m->map[j].keys) return m->map[j].key[i];
        i -= m->map[j].keys;
    }
    return NULL;
}

size_t feature_maps_weight_bytes(const FeatureMaps *m) {
    size_t n = 0;
    for (int i = 0; i < m->maps; i++)
        if (m->map[i].weights) n += weights_bytes(m->map[i].weights);
    return n;
}

size_t feature_maps_in_place(const FeatureMaps *m, const Backend *b) {
    size_t n = 0;
    for (int i = 0; i < m->maps; i++)
        if (m->map[i].weights) n += weights_in_place(m->map[i].weights, b);
    return n;
}

/* ---- graphs ---- */
static int build_map(const FeatureMap *map, Build *b, FeatureInputs *in, Value *out, Error *err) {
    Build own = *b;
    own.weights = map->weights;
    own.adapter = NULL;
    TRY(map->kind->build(map, &own, in, out, err));
    b->next_segment = own.next_segment;
    return graph_check(b->g, err);
}

static int build_part(const void *state, Build *b, FeatureInputs *in, Value *out, Error *err) {
    const Part *part = state;
    for (int i = 0; i < part->maps->maps; i++) {
        if (!is_in(part->maps, i, part->part)) continue;
        TRY(build_map(&part->maps->map[i], b, in, out, err));
        out += part->maps->map[i].keys;
    }
    return 0;
}

FeatureBuilder feature_maps_builder(FeatureMaps *m, FeaturePart part) {
    m->part[part] = (Part){m, part};
    FeatureBuilder f = {.build = build_part, .maps = &m->part[part], .count = count_part(m, part)};
    for (int i = 0; i < m->maps; i++) {
        if (!is_in(m, i, part)) continue;
        f.needs_text |= m->map[i].kind->needs_text;
        f.draws |= m->map[i].kind->draws && m->map[i].kind->draws(&m->map[i]);
    }
    return f;
}

int feature_check(FeatureMap *m, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    Build build = {.g = g};
    FeatureInputs in = {.pipeline = m->pipeline};
    Value out[MAX_FEATURE_KEYS];
    in.latents = input(g, "latents", DT_F32, shape4(1, m->pipeline->latent_channels, m->height, m->width));
    TextInputs text = {0};
    int code = m->kind->needs_text ? text_inputs_append(g, m->pipeline, 8, 8, &text, err) : 0;
    in.text = text.text, in.added = text.added;
    if (code >= 0) code = build_map(m, &build, &in, out, err);
    if (code >= 0 && m->weights) code = weights_finish(m->weights, err);
    arena_free(arena);
    return code;
}
