/* Decode pass: latents -> 8-bit pictures through the VAE decoder or a TAESD (taesd.h), one planned graph.
 *
 *     image = decode(x0 / scaling + shift);   byte = round(255 clamp((image + 1) / 2, 0, 1)) */
#ifndef DRPO_MODEL_DECODE_PASS_H
#define DRPO_MODEL_DECODE_PASS_H

#include "engine/backend.h"
#include "model/pipeline.h"
#include "model/taesd.h"

typedef struct DecodePass DecodePass;

/* How many of `count` pictures are decoded at a time: as many as keep the layers near the cache, so that the memory for
 * them does not grow with a batch. Layers that normalise over a picture need all of it, so one is the least. */
int decode_batch(int count, int height, int width);
/* With Pipeline.vae_tile, pictures with a longer side go through in tiles (decode_tiles.h), so that memory does not
 * grow with them; they differ a little from those decoded whole, as layers normalise over a tile. Not so with a TAESD.
 */
int decode_pass_new(Pipeline *p, Backend *b, int batch, int height, int width, DecodePass **out,
                    Error *err); /* latent size */
int decode_pass_new_taesd(Taesd *t, Backend *b, int batch, int height, int width, DecodePass **out, Error *err);
void decode_pass_free(DecodePass *d);
size_t decode_pass_bytes(const DecodePass *d);
int decode_pass_bind(DecodePass *d, void *memory, Error *err);
/* latents [count,C,h,w], any count -> rgb [count,f h,f w,3] */
int decode_pass_run(DecodePass *d, const float *latents, int count, uint8_t *rgb, Error *err);
/* A picture of `plane` pixels: [3,plane] in [-1,1], clipped -> [plane,3]. */
void planes_to_rgb(const float *planes, size_t plane, uint8_t *rgb);

#endif
