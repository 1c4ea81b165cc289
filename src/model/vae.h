/* AutoencoderKL: latents <-> images. Diffusers' network, from its config.json. Images are in [-1,1]. */
#ifndef DRPO_MODEL_VAE_H
#define DRPO_MODEL_VAE_H

#include "model/build.h"

enum { VAE_MAX_BLOCKS = 8 };

typedef struct VaeConfig {
    int in_channels, out_channels, latent_channels, sample_size;
    int blocks, channels[VAE_MAX_BLOCKS], layers;
    int norm_groups;
    float scaling_factor, shift_factor;
    bool use_quant_conv, use_post_quant_conv, mid_attention, force_upcast;
    Act act;
} VaeConfig;

int vae_config_read(const char *path, VaeConfig *c, Error *err);
int vae_factor(const VaeConfig *c); /* pixels per latent, 2^(blocks-1) */
Value vae_decode(Build *b, const VaeConfig *c,
                 Value latents); /* [N,4,h,w] ALREADY divided by scaling -> [N,3,f h,f w] */
/* Clean latents, as the generator gives them -> pictures clipped to [-1,1]; no slope where they are clipped. */
Value vae_picture(Build *b, const VaeConfig *c, Value latents);
Value vae_encode(Build *b, const VaeConfig *c, Value image); /* [N,3,H,W] -> moments [N,8,H/f,W/f]: mean | logvar */
/* A file holds both halves: a builder that uses one ignores the other's tensors by prefix. */
void vae_ignore_encoder(Weights *w);
void vae_ignore_decoder(Weights *w);

#endif
