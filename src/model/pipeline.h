/* Pipeline: a model opened: configs checked, weights mapped, nothing computed yet.
 *
 *   model_index.json, scheduler/scheduler_config.json, tokenizer/, text_encoder/, unet/, vae/
 *   and in SDXL tokenizer_2/, text_encoder_2/ */
#ifndef DRPO_MODEL_PIPELINE_H
#define DRPO_MODEL_PIPELINE_H

#include "model/model_files.h"
#include "model/one_step.h"
#include "model/text_encoders.h"
#include "model/unet.h"
#include "model/vae.h"

typedef struct Pipeline {
    char *folder; /* or the one file */
    char *name;   /* what users know it by: a repository id, else the folder */
    ModelFiles *files;
    bool sdxl; /* StableDiffusionXLPipeline */
    UnetConfig unet;
    VaeConfig vae;
    TextEncoders text;
    Weights *unet_weights, *vae_weights;
    OneStep stock, released;
    int latent_channels, latent_size; /* of the default resolution */
    int factor;                       /* pixels per latent */
    int vae_tile;                     /* latents along a tile in which larger pictures are decoded; 0: whole */
    char sha256[65];                  /* filled by pipeline_sha256 */
    struct TextPass *text_pass;       /* shared by who encodes text; not owned (text_pass.h) */
} Pipeline;

int pipeline_open(const char *folder, Pipeline **out, Error *err);
int pipeline_open_choice(const ModelChoice *choice, Pipeline **out, Error *err);
void pipeline_free(Pipeline *p);
/* Latents along one side of pictures of `resolution` pixels (0: the model's own); an error names --resolution. */
int pipeline_latent_side(const Pipeline *p, int resolution, int *side, Error *err);
/* SHA-256 of the UNet's file (weights_sha256), read on first use: says which base an adapter belongs to. */
const char *pipeline_sha256(Pipeline *p);
/* Registers the UNet's target modules in `targets` and every linear module in `all` (either may be NULL); lora_allocate
 * comes next. */
int pipeline_register(Pipeline *p, Adapter *targets, Adapter *all, Error *err);

#endif
