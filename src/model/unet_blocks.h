/* Pieces of the UNet that only unet.c puts together. */
#ifndef DRPO_MODEL_UNET_BLOCKS_H
#define DRPO_MODEL_UNET_BLOCKS_H

#include "model/build.h"

typedef struct Transformer {
    int layers, heads, groups;
    bool linear_projection;    /* proj_in and proj_out are linear layers, else 1x1 convolutions */
    bool only_cross_attention; /* attn1 attends to the text too */
    Value text;                /* [N|1,T,D] */
} Transformer;
/* x [N,C,H,W] -> the same shape; one recompute segment per transformer block. */
Value block_transformer(Build *b, const Transformer *t, Value x, const char *name);

#endif
