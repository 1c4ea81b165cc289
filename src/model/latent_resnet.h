/* The latent feature network (spec: GroupNorm ResNet on latents) and its pooled feature keys. */
#ifndef DRPO_MODEL_LATENT_RESNET_H
#define DRPO_MODEL_LATENT_RESNET_H

#include "model/build.h"

enum { RESNET_MAX_STAGES = 8 };

typedef struct LatentResnetConfig {
    int in_channels, stages;
    int blocks[RESNET_MAX_STAGES], width[RESNET_MAX_STAGES];
    float norm_eps, std_eps;
    bool std_floor; /* sqrt(max(var, eps)) (the embedded networks) instead of sqrt(max(var,0) + eps) (published) */
    int groups[RESNET_MAX_STAGES];
    int latent_stride; /* the key "latent": every so many rows and columns; 0 and 1: all */
} LatentResnetConfig;

int latent_resnet_config_read(const char *path, LatentResnetConfig *c, Error *err);
/* The published network in one file without a config.json (latent_resnet_file.c). */
int latent_resnet_open(const char *path, LatentResnetConfig *c, Weights **out, Error *err);
/* The map named by the part of a key before "_mean"/"_std": "latent", "conv1", "layer<n>", "layer<n>_blk<b>". Only
 * layers up to the last requested one are built. keys[i] e.g. "layer4_mean_2", "latent_std_8", "layer3" -> features[i]
 * [N, tokens, D], tokens row-major. `w` may be NULL when every key starts with "latent". Unknown keys, or pools that do
 * not divide, are errors that list what exists. */
int latent_resnet_features(Build *b, const LatentResnetConfig *c, Value latents, const char *const *keys, int n_keys,
                           Value *features, Error *err);

#endif
