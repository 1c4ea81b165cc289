/* Autoencoder: the VAE of pictures of scenes, from random weights.
 *
 *     mean, logvar = encode(x);   z = mean + exp(logvar / 2) n;   y = decode(z)
 *     loss = |y - x| + 2 (y - x)^2 + |edges of y - edges of x| / 2 + 0.001 KL(mean, logvar | 0, 1)
 *
 * every term a mean; edges are differences of neighbours, to the right and down. Before the generator, whose latents
 * are mean * scaling with scaling = 1 / deviation of all means. */
#ifndef DRPO_PRETRAIN_AUTOENCODER_H
#define DRPO_PRETRAIN_AUTOENCODER_H

#include "model/vae.h"
#include "pretrain/captions.h"
#include "pretrain/part.h"

typedef struct Autoencoder {
    Part part;
    PartPass encode, decode;
    int side, latent_side, channels;
    size_t pixels, latents;                             /* numbers of a batch: [B,3,S,S], [B,C,h,w] */
    float *picture, *noise, *moments, *z, *y, *dz, *dm; /* dm: d(loss)/d(moments) */
} Autoencoder;

int autoencoder_open(Autoencoder *a, const VaeConfig *c, const Weights *like, const PartOptions *o, Error *err);
void autoencoder_close(Autoencoder *a);
/* Pictures and noise of update `step`, drawn by caption. */
int autoencoder_draw(Autoencoder *a, const Captions *captions, long step, Error *err);
/* The loss of what was drawn; its gradient goes into part.grad. */
int autoencoder_learn(Autoencoder *a, double *loss, Error *err);
/* 1 / deviation of the means of pictures that were not learned from; and the share of their reconstructions that the
 * verifier finds right. */
int autoencoder_judge(Autoencoder *a, const Captions *captions, double *scaling, double *right, Error *err);

#endif
