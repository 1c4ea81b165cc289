/* AutoencoderTiny (TAESD): a small decoder distilled from a VAE's, for rewards that can do with its pictures.
 *
 *     bound(x) = 3 tanh((x / scaling) / 3);   image = 2 layers(bound(x)) - 1, nominally in [-1,1]
 *
 * It takes the latents as the generator makes them: the published networks were trained on those, so their scaling
 * is 1. */
#ifndef DRPO_MODEL_TAESD_H
#define DRPO_MODEL_TAESD_H

#include "model/build.h"

enum { TAESD_MAX_STAGES = 8 };

typedef struct TaesdConfig {
    int latent_channels, width;
    int stages, blocks[TAESD_MAX_STAGES]; /* pictures double in size between stages */
    float scaling_factor;
    Act act;
    const char *layers; /* what a layer's number follows in the names of the weights */
    int first;          /* number of the first convolution: the authors' own files count the bound as layer 0 */
} TaesdConfig;

typedef struct Taesd {
    TaesdConfig config;
    Weights *weights;
} Taesd;

/* A diffusers folder with config.json, or one file: diffusers' or the authors' taesd_decoder. Every tensor of the
 * decoder must be there, and none that is not used. */
int taesd_open(const char *path, Taesd **out, Error *err);
void taesd_close(Taesd *t);
int taesd_config_read(const char *path, TaesdConfig *c, Error *err);
int taesd_factor(const TaesdConfig *c); /* pixels per latent */

/* n numbers of latents as the generator gives them -> what the layers take. */
void taesd_bound(const TaesdConfig *c, const float *latents, size_t n, float *out);
/* bounded latents [N,C,h,w] -> images [N,3,f h,f w] */
Value taesd_decode(Build *b, const TaesdConfig *c, Value bounded);

#endif
