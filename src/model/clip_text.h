/* CLIPTextModel: token ids -> text states. Transformers' network, from its config.json. */
#ifndef DRPO_MODEL_CLIP_TEXT_H
#define DRPO_MODEL_CLIP_TEXT_H

#include "format/json.h"
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
/* The text_config of a whole CLIP model; `projection` is left as it is. */
int clip_text_config_section(const JsonReader *r, ClipTextConfig *c);
/* ids I32 [N,T]. last: states after final_layer_norm [N,T,C]; penultimate (may be NULL): hidden_states[-2], no final
 * norm. Returns 0: graph_check reports what went wrong. */
int clip_text_build(Build *b, const ClipTextConfig *c, Value ids, Value *last, Value *penultimate);

/* Pooled text of a model with projection: the projected state of the end-of-text token, [N,P]. `at_end` [N,1,T] is 1 at
 * that token, else 0; clip_text_find_end writes one row of it. */
Value clip_text_project(Build *b, const ClipTextConfig *c, Value last, Value at_end);
void clip_text_find_end(const ClipTextConfig *c, const int32_t *ids, int tokens, float *at_end);

#endif
