/* Maps on latents: raw latents, and the encoder of a masked autoencoder on latents (resnet). Neither is ever so large
 * that it could not stand behind the generator. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/latent_resnet.h"
#include "step/feature/feature_map.h"

typedef struct LatentState {
    LatentResnetConfig config;
} LatentState;

static LatentState *state_new(FeatureMap *m) {
    LatentState *s = arena_alloc(m->arena, sizeof *s);
    if (s) *s = (LatentState){.config = {.in_channels = m->pipeline->latent_channels, .std_eps = 1e-6f}};
    m->state = s;
    return s;
}

static int read_deviation(const FeatureMap *m, LatentResnetConfig *c, Error *err) {
    const char *std = feature_option(m, "std", NULL);
    if (!std) return 0;
    c->std_floor = strcmp(std, "floor") == 0;
    if (c->std_floor || strcmp(std, "add") == 0) return 0;
    return fail(err, DRPO_E_USAGE, "--features %s: std=%s must be floor or add", m->spec, std);
}

static int open_latent(FeatureMap *m, Error *err) {
    LatentState *s = state_new(m);
    if (!s) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    double stride;
    TRY(read_deviation(m, &s->config, err));
    TRY(feature_number(m, "stride", 1, 1, 64, &stride, err));
    s->config.latent_stride = (int)stride;
    return feature_check(m, err);
}

/* Builds the whole network once: a tensor that belongs to no layer is reported even where few keys are wanted. */
static int check_network(FeatureMap *m, const LatentResnetConfig *c, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    Build build = {.g = g, .weights = m->weights};
    char last[32];
    snprintf(last, sizeof last, "layer%d", c->stages);
    const char *keys[] = {last};
    Value feature;
    Value latents = input(g, "latents", DT_F32, shape4(1, c->in_channels, 64, 64));
    int code = latent_resnet_features(&build, c, latents, keys, 1, &feature, err);
    if (code >= 0) code = weights_finish(m->weights, err);
    arena_free(arena);
    return code;
}

static int open_resnet(FeatureMap *m, Error *err) {
    LatentState *s = state_new(m);
    if (!s) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    if (file_exists(m->path)) {
        TRY(latent_resnet_open(m->path, &s->config, &m->weights, err));
        weights_keep_stored(m->weights);
        TRY(read_deviation(m, &s->config, err));
        return check_network(m, &s->config, err);
    }
    if (!dir_exists(m->path))
        return fail(
            err, DRPO_E_INPUT,
            "--features %s: no folder '%s' (it should hold config.json and model.safetensors), and no checkpoint file",
            m->spec, m->path);
    TRY(latent_resnet_config_read(path_join(m->arena, m->path, "config.json"), &s->config, err));
    TRY(weights_open(m->path, "model", &m->weights, err));
    weights_keep_stored(m->weights);
    TRY(read_deviation(m, &s->config, err));
    return check_network(m, &s->config, err);
}

static int build(const FeatureMap *m, Build *b, FeatureInputs *in, Value *out, Error *err) {
    static const LatentResnetConfig raw = {.in_channels = 4}; /* of the anchor */
    const LatentState *s = m->state;
    return latent_resnet_features(b, s ? &s->config : &raw, in->latents, m->key, m->keys, out, err);
}

const FeatureKind latent_map = {
    .name = "latent",
    .keys = "latent_mean_8,latent_std_8",
    .options = "std=floor|add stride=N",
    .open = open_latent,
    .build = build,
};

const FeatureKind resnet_map = {
    .name = "resnet",
    .alias = "latent-mae",
    .argument = "FOLDER|FILE",
    .keys = "layer4_mean,layer4_std",
    .options = "std=floor|add",
    .open = open_resnet,
    .build = build,
};
