/* Feature: parses the specification, opens the networks and appends their keys to a graph. Between generate and drift.
 */
#include "step/feature/feature.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/latent_resnet.h"

enum { MAX_MAPS = 4 };

typedef struct FeatureMap {
    LatentResnetConfig config;
    Weights *weights; /* NULL: raw latents */
    const char *key[MAX_FEATURE_KEYS];
    int keys;
} FeatureMap;

struct FeatureMaps {
    Arena *arena;
    FeatureMap map[MAX_MAPS + 1]; /* the anchor, if any, last */
    int maps;
    bool anchor;
};

static const char default_resnet_keys[] = "layer4_mean,layer4_std";
static const char default_latent_keys[] = "latent_mean_8,latent_std_8";

static int split_keys(FeatureMaps *m, FeatureMap *map, const char *list, const char *spec, Error *err) {
    char *copy = arena_strdup(m->arena, list), *rest = NULL;
    if (!copy) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    for (char *key = strtok_r(copy, ",", &rest); key; key = strtok_r(NULL, ",", &rest)) {
        if (feature_maps_count(m) == MAX_FEATURE_KEYS)
            return fail(err, DRPO_E_USAGE, "--features %s: at most %d keys", spec, MAX_FEATURE_KEYS);
        map->key[map->keys++] = key;
    }
    if (map->keys == 0) return fail(err, DRPO_E_USAGE, "--features %s: 'keys=' names no key", spec);
    return 0;
}

/* Options behind '?': keys=a,b and std=floor|add. */
static int parse_options(FeatureMap *map, char *options, const char *spec, const char **keys, Error *err) {
    char *rest = NULL;
    for (char *option = strtok_r(options, "&", &rest); option; option = strtok_r(NULL, "&", &rest)) {
        if (strncmp(option, "keys=", 5) == 0)
            *keys = option + 5;
        else if (strcmp(option, "std=floor") == 0)
            map->config.std_floor = true;
        else if (strcmp(option, "std=add") == 0)
            map->config.std_floor = false;
        else
            return fail(err, DRPO_E_USAGE, "--features %s: unknown option '%s' (keys=..., std=floor|add)", spec,
                        option);
    }
    return 0;
}

/* Builds the whole network once, to nowhere: every missing, misshapen or unused tensor is reported before training
 * starts. */
static int check_network(FeatureMap *map, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    Build build = {.g = g, .weights = map->weights};
    char last[32];
    snprintf(last, sizeof last, "layer%d", map->config.stages);
    const char *keys[] = {last};
    Value feature;
    Value latents = input(g, "latents", DT_F32, shape4(1, map->config.in_channels, 64, 64));
    int code = latent_resnet_features(&build, &map->config, latents, keys, 1, &feature, err);
    if (code >= 0) code = weights_finish(map->weights, err);
    arena_free(arena);
    return code;
}

static int open_resnet(FeatureMaps *m, FeatureMap *map, const char *folder, const char *spec, Error *err) {
    if (!dir_exists(folder))
        return fail(err, DRPO_E_INPUT,
                    "--features %s: no folder '%s' (it should hold config.json and model.safetensors)", spec, folder);
    TRY(latent_resnet_config_read(path_join(m->arena, folder, "config.json"), &map->config, err));
    TRY(weights_open(folder, "model", &map->weights, err));
    return check_network(map, err);
}

static int open_map(FeatureMaps *m, char *text, const char *spec, Error *err) {
    FeatureMap *map = &m->map[m->maps++];
    char *options = strchr(text, '?');
    if (options) *options++ = 0;
    const char *keys = NULL;
    if (strncmp(text, "resnet:", 7) == 0) {
        TRY(open_resnet(m, map, text + 7, spec, err));
        keys = default_resnet_keys;
    } else if (strcmp(text, "latent") == 0) {
        map->config = (LatentResnetConfig){.in_channels = 4, .std_eps = 1e-6f};
        keys = default_latent_keys;
    } else {
        return fail(err, DRPO_E_USAGE, "--features %s: unknown map '%s' (resnet:FOLDER or latent)", spec, text);
    }
    if (options) TRY(parse_options(map, options, spec, &keys, err));
    return split_keys(m, map, keys, spec, err);
}

static int open_all(FeatureMaps *m, const char *spec, Error *err) {
    char *copy = arena_strdup(m->arena, spec), *rest = NULL;
    if (!copy) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    for (char *text = strtok_r(copy, "+", &rest); text; text = strtok_r(NULL, "+", &rest)) {
        if (m->maps == MAX_MAPS) return fail(err, DRPO_E_USAGE, "--features %s: at most %d maps", spec, MAX_MAPS);
        TRY(open_map(m, text, spec, err));
    }
    if (m->maps == 0) return fail(err, DRPO_E_USAGE, "--features is empty: name a map, e.g. latent or resnet:FOLDER");
    return 0;
}

static void add_anchor(FeatureMaps *m) {
    m->map[m->maps++] = (FeatureMap){.config = {.in_channels = 4}, .key = {"latent"}, .keys = 1};
}

int feature_maps_open(const char *spec, bool anchor, FeatureMaps **out, Error *err) {
    FeatureMaps *m = calloc(1, sizeof *m);
    if (!m || !(m->arena = arena_new())) {
        free(m);
        return fail(err, DRPO_E_MEMORY, "features: out of memory");
    }
    int code = spec ? open_all(m, spec, err) : 0;
    if (code < 0) {
        feature_maps_close(m);
        return code;
    }
    m->anchor = anchor;
    if (anchor) add_anchor(m);
    *out = m;
    return 0;
}

void feature_maps_close(FeatureMaps *m) {
    if (!m) return;
    for (int i = 0; i < m->maps; i++) weights_free(m->map[i].weights);
    arena_free(m->arena);
    free(m);
}

int feature_maps_count(const FeatureMaps *m) {
    int n = 0;
    for (int i = 0; i < m->maps; i++) n += m->map[i].keys;
    return n;
}

bool feature_maps_is_anchor(const FeatureMaps *m, int i) { return m->anchor && i == feature_maps_count(m) - 1; }

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

static int build_maps(const void *maps, Build *b, Value latents, Value *out, Error *err) {
    const FeatureMaps *m = maps;
    for (int i = 0; i < m->maps; i++) {
        const FeatureMap *map = &m->map[i];
        Build own = *b;
        own.weights = map->weights;
        own.adapter = NULL;
        TRY(latent_resnet_features(&own, &map->config, latents, map->key, map->keys, out, err));
        b->next_segment = own.next_segment;
        out += map->keys;
    }
    return 0;
}

FeatureBuilder feature_maps_builder(const FeatureMaps *m) {
    return (FeatureBuilder){.build = build_maps, .maps = m, .count = feature_maps_count(m)};
}
