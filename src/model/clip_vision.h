/* CLIP's vision tower: a picture -> its embedding, beside those of texts. Transformers' CLIPVisionModelWithProjection.
 */
#ifndef DRPO_MODEL_CLIP_VISION_H
#define DRPO_MODEL_CLIP_VISION_H

#include "format/json.h"
#include "model/build.h"

typedef struct ClipVisionConfig {
    int width, layers, heads, mlp, patch, image; /* image: side of the pictures that go in */
    float eps;
    Act act;
} ClipVisionConfig;

/* The vision_config of a CLIP model. */
int clip_vision_config_section(const JsonReader *r, ClipVisionConfig *c);
/* pixels [N,3,image,image], normalised -> [N,projection]. Names begin with "vision_model."; graph_check reports what
 * went wrong. */
Value clip_vision_build(Build *b, const ClipVisionConfig *c, int projection, Value pixels);

#endif
