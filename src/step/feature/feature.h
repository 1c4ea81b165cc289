/* Feature: the frozen maps in which drift is measured, named MAP[:PATH]?keys=K1,K2,...; several joined by '+' add their
 * keys.
 *
 *   resnet:FOLDER?keys=layer4_mean,layer4_std   latent ResNet (config.json, model.safetensors); its latent_* keys too
 *   latent?keys=latent_mean_8,latent_std_8      pooled raw latents, no network */
#ifndef DRPO_STEP_FEATURE_H
#define DRPO_STEP_FEATURE_H

#include "model/generator_pass.h"
#include "step/step_types.h"

typedef struct FeatureMaps FeatureMaps;

/* spec NULL: no map, for methods that learn from the latents alone. `anchor`: one more key, the last: the latents
 * themselves, [K, h*w, C]. */
int feature_maps_open(const char *spec, bool anchor, FeatureMaps **out, Error *err);
void feature_maps_close(FeatureMaps *m);
int feature_maps_count(const FeatureMaps *m); /* keys, the anchor included */
bool feature_maps_is_anchor(const FeatureMaps *m, int i);
const char *feature_maps_key(const FeatureMaps *m, int i);
size_t feature_maps_weight_bytes(const FeatureMaps *m);
FeatureBuilder feature_maps_builder(const FeatureMaps *m);

#endif
