/* Encode pass: a picture -> clean latents through the VAE encoder, one planned graph.
 *
 *     mean, logvar = encode(image in [-1,1]);   latents = (mean [+ exp(logvar / 2) n] - shift) * scaling */
#ifndef DRPO_MODEL_ENCODE_PASS_H
#define DRPO_MODEL_ENCODE_PASS_H

#include "base/rng.h"
#include "engine/backend.h"
#include "model/pipeline.h"

typedef struct EncodePass EncodePass;

int encode_pass_new(Pipeline *p, Backend *b, int height, int width, EncodePass **out, Error *err); /* latent size */
void encode_pass_free(EncodePass *e);
size_t encode_pass_bytes(const EncodePass *e);
int encode_pass_bind(EncodePass *e, void *memory, Error *err);
/* image [3,f h,f w] -> latents [C,h,w]; sample NULL: the mode of the posterior, else a draw from it with this key. */
int encode_pass_run(EncodePass *e, const float *image, const RngKey *sample, float *latents, Error *err);

#endif
