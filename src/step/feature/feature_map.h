/* Kinds of feature map: what each is called, takes and gives. A new one is a file with its `const FeatureKind` and one
 * line in feature.c.
 *
 *   latent                pooled raw latents, no network
 *   resnet:FOLDER|FILE    latent ResNet, the encoder of a masked autoencoder on latents; its latent_* keys too
 *   teacher               hidden states of the frozen UNet itself
 *   dinov2:FOLDER         DINOv2 on the decoded pictures
 *   vitmae:FOLDER         ViT-MAE on the decoded pictures */
#ifndef DRPO_STEP_FEATURE_MAP_H
#define DRPO_STEP_FEATURE_MAP_H

#include "step/feature/feature.h"

enum { MAX_FEATURE_OPTIONS = 8 };

typedef struct FeatureKind FeatureKind;

typedef struct FeatureMap {
    const FeatureKind *kind;
    const char *spec; /* the whole, for messages */
    const char *path; /* "" where the kind takes none */
    const char *key[MAX_FEATURE_KEYS];
    int keys;
    const char *option[MAX_FEATURE_OPTIONS], *value[MAX_FEATURE_OPTIONS];
    int n_options;
    Weights *weights; /* owned; NULL: none of its own */
    void *state;      /* the kind's, in `arena` unless its close says otherwise */
    Arena *arena;
    Pipeline *pipeline;
    int height, width; /* of the latents */
} FeatureMap;

struct FeatureKind {
    const char *name, *alias; /* alias: the released trainers' name, may be NULL */
    const char *argument;     /* "FOLDER"; NULL: none */
    const char *keys;         /* the default, separated by commas */
    const char *options;      /* beside keys=, for messages and checks: "std=floor|add stride=N" */
    bool aside, needs_text;
    int (*open)(FeatureMap *m, Error *err); /* may be NULL */
    /* Appends m->keys nodes [N,tokens,dim]; b->weights are the map's. */
    int (*build)(const FeatureMap *m, Build *b, FeatureInputs *in, Value *out, Error *err);
    void (*close)(FeatureMap *m); /* may be NULL; weights and arena are released by the caller */
    bool (*draws)(const FeatureMap *m), (*redraws)(const FeatureMap *m); /* may be NULL */
};

extern const FeatureKind latent_map, resnet_map, teacher_map, dinov2_map, vitmae_map;

/* Value of an option, or `fallback`. */
const char *feature_option(const FeatureMap *m, const char *name, const char *fallback);
/* A number in [low, high]; anything else is an error. */
int feature_number(const FeatureMap *m, const char *name, double fallback, double low, double high, double *out,
                   Error *err);
int feature_flag(const FeatureMap *m, const char *name, bool *out, Error *err); /* true|false, default false */
/* Builds once to nowhere, so that every missing or misshapen tensor is reported before training starts. */
int feature_check(FeatureMap *m, Error *err);

#endif
