/* Checkpoint names: tensors of the original one-file checkpoints (CompVis/Stability for UNet and VAE, OpenCLIP for the
 * text encoder) under the names that diffusers and transformers give them. */
#ifndef DRPO_MODEL_CHECKPOINT_NAMES_H
#define DRPO_MODEL_CHECKPOINT_NAMES_H

#include <stdbool.h>

enum { CHECKPOINT_NAME = 192 };

typedef enum NameChange {
    NAME_KEEP,
    NAME_SPLIT,    /* [3C,...] is three tensors of [C,...] */
    NAME_SQUEEZE,  /* a 1x1 convolution is a linear layer: trailing sizes of 1 fall away */
    NAME_TRANSPOSE /* [in,out] becomes [out,in] */
} NameChange;

typedef struct CheckpointName {
    const char *component; /* "unet", "vae", "text_encoder", "text_encoder_2"; NULL: known and not needed */
    NameChange change;
    int parts; /* 3 for NAME_SPLIT, else 1 */
    char name[3][CHECKPOINT_NAME];
} CheckpointName;

/* What is counted in a file before its names can be read. */
typedef struct CheckpointShape {
    int vae_levels;  /* decoder levels are counted from the other end */
    int text_layers; /* layers of text_encoder that are used: SD 2 leaves its last one out; 0: all */
    bool sdxl;       /* two text encoders, the second with a projection */
} CheckpointShape;

/* false: no checkpoint of these families has such a tensor. */
bool checkpoint_name(const char *original, const CheckpointShape *shape, CheckpointName *out);

#endif
