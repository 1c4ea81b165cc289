/* CLIPTextModel: token ids -> text states. Transformers' network, from its config.json. */
#ifndef DRPO_MODEL_CLIP_TEXT_H
#define DRPO_MODEL_CLIP_TEXT_H

#include "model/build.h"

typedef struct ClipTextConfig {
    int vocab, width, layers, heads, mlp, positions;
    float eps;
    Act act;
    bool projection; /* CLIPTextModelWithProjection (architectures) */
    int projection_dim;
    int eos_id;
} ClipTextConfig;

int clip_text_config_read(const char *path, ClipTextConfig *c, Error *err);
/* ids I32 [N,T]. last: states after final_layer_norm [N,T,C]; penultimate (may be NULL): hidden_states[-2], no final norm. */
int clip_text_build(Build *b, const ClipTextConfig *c, Value ids, Value *last, Value *penultimate);

#endif
