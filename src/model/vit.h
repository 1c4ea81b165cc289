/* Vision transformers of transformers on pictures: DINOv2 (model_type dinov2) and the encoder of ViT-MAE (vit_mae).
 *
 *     x = [cls | patches] + positions;  per block: x += s1 attention(norm1 x);  x += s2 fc2 gelu(fc1 norm2 x)
 *
 * s1, s2: DINOv2's layer scales, else 1. Hidden state l is what block l gives, before the final norm; 0 is the
 * embedding. */
#ifndef DRPO_MODEL_VIT_H
#define DRPO_MODEL_VIT_H

#include "model/build.h"

typedef enum VitKind { VIT_DINOV2, VIT_MAE } VitKind;

typedef struct VitConfig {
    VitKind kind;
    int width, layers, heads, mlp, patch;
    int table; /* side of the grid of positions that the file holds */
    float eps;
    bool qkv_bias;
    Act act;
    int size;              /* side of the pictures that go in: preprocessor_config.json */
    float mean[3], std[3]; /* likewise */
} VitConfig;

/* FOLDER/config.json and, if there, FOLDER/preprocessor_config.json. */
int vit_config_read(const char *folder, VitConfig *c, Error *err);
/* Patches along one side of the pictures. */
int vit_grid(const VitConfig *c);

/* What a network needs beside its file: the table of positions at the grid of its pictures. Kept by the caller. */
typedef struct VitPositions {
    Param param; /* [1, 1 + grid^2, width] */
    float *values;
} VitPositions;
int vit_positions_new(const VitConfig *c, Weights *w, VitPositions *out, Error *err);
void vit_positions_free(VitPositions *p);

/* pixels [N,3,size,size], normalised; keep [N,kept,grid^2] selects patches (ViT-MAE's random masking), NULL: all. Fills
 * hidden[l] [N, 1 + patches, width] for 0 <= l <= last; deeper blocks are not built and their tensors ignored. */
void vit_build(Build *b, const VitConfig *c, VitPositions *positions, Value pixels, Value keep, int last,
               Value *hidden);

#endif
