/* Qwen2-VL: pictures and text into the states of one language model. Transformers' network, from its config.json.
 *
 *     patches -> vision tower -> one state per 2 x 2 patches -> in place of the text's image tokens -> decoder */
#ifndef DRPO_MODEL_QWEN2_VL_H
#define DRPO_MODEL_QWEN2_VL_H

#include "model/build.h"

typedef struct QwenVisionConfig {
    int width, layers, heads, mlp;
    int channels, patch, temporal,
        merge; /* patch: pixels a side; temporal: frames; merge: patches a side of one state */
    float eps;
    double theta;
    Act act;
} QwenVisionConfig;

typedef struct Qwen2VlConfig {
    QwenVisionConfig vision;
    int width, layers, heads, kv_heads, mlp;
    float eps;
    double theta;
    int section[3]; /* frequencies turned by time, row and column of a token; their sum is half of a head */
} Qwen2VlConfig;

int qwen2_vl_config_read(const char *path, Qwen2VlConfig *c, Error *err);

/* ---- pictures ---- */

/* Size to which a picture is resized: multiples of patch * merge with about `pixels` pixels, the aspect kept. Refuses
 * aspects beyond 200. */
int qwen2_vl_picture_size(const QwenVisionConfig *c, int64_t pixels, int width, int height, int *out_width,
                          int *out_height, Error *err);
/* Numbers of one patch, and patches of a resized picture. */
int64_t qwen2_vl_patch_numbers(const QwenVisionConfig *c);
/* rgb [height,width,3] in 0..255 -> patches [height/patch * width/patch, channels * temporal * patch^2], normalised, in
 * the order of the merged cells. */
void qwen2_vl_patches(const QwenVisionConfig *c, const uint8_t *rgb, int width, int height, float *patches);

/* ---- angles: cos and sin [rows, head size] ---- */

/* Rows in the order of qwen2_vl_patches for a grid of rows x columns patches. */
void qwen2_vl_vision_angles(const QwenVisionConfig *c, int rows, int columns, float *cosine, float *sine);
/* position [3,tokens]: time, row, column. Equal ones give the ordinary rotary embedding. */
void qwen2_vl_text_angles(const Qwen2VlConfig *c, const int32_t *position, int tokens, float *cosine, float *sine);

/* ---- networks; mistakes are in the graph ---- */

/* patches [1,P,numbers], cosine and sine [P,1,head size] -> [1, P / merge^2, decoder width] */
Value qwen2_vl_vision_build(Build *b, const Qwen2VlConfig *c, Value patches, Value cosine, Value sine);
/* states [1,T,width], cosine and sine [T,1,head size] -> [1,T,width] after the final norm; `last_only`: the last
 * token's state alone, [1,1,width], without computing the others in the last layer. */
Value qwen2_vl_text_build(Build *b, const Qwen2VlConfig *c, Value states, Value cosine, Value sine, bool last_only);
/* The table [V,width] of token embeddings; NULL with a mistake in `weights` when it is missing. */
Param *qwen2_vl_embeddings(Weights *weights, const Qwen2VlConfig *c);

#endif
