/* UNet2DConditionModel: noise latents, timestep and text states -> predicted noise. Diffusers' network, from its
 * config.json. */
#ifndef DRPO_MODEL_UNET_H
#define DRPO_MODEL_UNET_H

#include "model/build.h"

enum { UNET_MAX_BLOCKS = 8, UNET_MAX_LAYERS = 8 };

typedef struct UnetConfig {
    int in_channels, out_channels, sample_size;
    int blocks;                                                  /* resolution levels */
    int channels[UNET_MAX_BLOCKS];                               /* block_out_channels */
    bool down_cross[UNET_MAX_BLOCKS], up_cross[UNET_MAX_BLOCKS]; /* CrossAttn{Down,Up}Block2D */
    bool mid_cross;
    int layers[UNET_MAX_BLOCKS];             /* layers_per_block */
    int transformer_layers[UNET_MAX_BLOCKS]; /* per down block; up blocks reversed */
    int heads[UNET_MAX_BLOCKS]; /* number of heads (config: attention_head_dim, misnamed, or num_attention_heads) */
    int cross_attention_dim;
    bool use_linear_projection;
    bool scale_shift; /* resnet_time_scale_shift: "scale_shift" */
    bool only_cross_attention;
    int norm_groups;
    float norm_eps;
    bool flip_sin_to_cos;
    int freq_shift;
    bool added_text_time; /* addition_embed_type "text_time" (SDXL) */
    int addition_time_embed_dim, projection_input_dim;
    /* what else the supported families use; an unsupported value of any key is an error that names the key */
    int downsample_padding;
    float mid_block_scale;
    Act act;
} UnetConfig;

int unet_config_read(const char *path, UnetConfig *c, Error *err);
/* out [dim]: cos/sin of t times frequencies, as diffusers' Timesteps. */
void timestep_embedding(float t, int dim, bool flip_sin_to_cos, float freq_shift, float *out);
/* latents [N,4,h,w]; time [1,C0] sinusoids; text [N|1,T,D]; added [N|1,P] (pooled text | time id sinusoids) or NULL
 * -> noise [N,4,h,w]. Names in the file are taken under "" (the component's own file). */
Value unet_build(Build *b, const UnetConfig *c, Value latents, Value time, Value text, Value added);
/* Outputs of blocks by their diffusers names ("down_blocks.2", "mid_block", "up_blocks.0"), as forward hooks see them;
 * nothing behind the last of them is built. An unknown name is the graph's mistake. */
void unet_hidden(Build *b, const UnetConfig *c, Value latents, Value time, Value text, Value added,
                 const char *const *names, int n, Value *out);

#endif
