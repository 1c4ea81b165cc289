/* Feature: the frozen maps in which drift is measured, named NAME[:PATH][?option=value&...]; several joined by '+' add
 * their keys. The kinds of map are listed in feature_map.h; every one has the option keys=K1,K2,...
 *
 * Small maps on latents stand behind the generator in its own graph. Large ones (`aside`: pixels behind the VAE
 * decoder, another UNet) are passes of their own from the finished latents. */
#ifndef DRPO_STEP_FEATURE_H
#define DRPO_STEP_FEATURE_H

#include "model/latent_pass.h"
#include "step/step_types.h"

typedef struct FeatureMaps FeatureMaps;

/* spec NULL: no map, for methods that learn from the latents alone. `anchor`: one more key, the last: the latents
 * themselves, [K, h*w, C]; maps that stand aside need it too. height, width: of the latents. */
int feature_maps_open(const char *spec, Pipeline *p, int height, int width, bool anchor, FeatureMaps **out, Error *err);
void feature_maps_close(FeatureMaps *m);
int feature_maps_count(const FeatureMaps *m); /* keys: those behind the generator, those aside, the anchor */
int feature_maps_aside(const FeatureMaps *m); /* keys of maps that stand aside */
bool feature_maps_is_anchor(const FeatureMaps *m, int i);
bool feature_maps_redraws(const FeatureMaps *m); /* anchors are drawn anew, as some released trainers do */
const char *feature_maps_key(const FeatureMaps *m, int i);
size_t feature_maps_weight_bytes(const FeatureMaps *m);
size_t feature_maps_in_place(const FeatureMaps *m, const struct Backend *b); /* bytes of them, see weights.h */

/* Which keys a pass computes. */
typedef enum FeaturePart { FEATURES_BEHIND, FEATURES_ASIDE, FEATURES_ALL } FeaturePart;
/* BEHIND includes the anchor; ALL does not. */
FeatureBuilder feature_maps_builder(FeatureMaps *m, FeaturePart part);

#endif
