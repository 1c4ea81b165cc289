/* Networks: every planned pass of one update and the memory they share, sized before the first step.
 *
 * When the budget lets all K candidates of a prompt through the gradient pass at once, its forward half is also the
 * generator and nothing is computed twice. Otherwise candidates go through in chunks: generated first without keeping
 * anything, then once more, chunk by chunk, when their gradient is known. Both give the same update; memory does not
 * grow with K in the second. */
#ifndef DRPO_STEP_NETWORKS_H
#define DRPO_STEP_NETWORKS_H

#include "model/decode_pass.h"
#include "model/encode_pass.h"
#include "model/generator_pass.h"
#include "model/latent_pass.h"

typedef struct Networks {
    Backend *backend;
    GeneratorPass *policy;    /* forward and backward, `chunk` candidates */
    GeneratorPass *reference; /* adapter off, features only */
    DecodePass *decode;       /* for the reward */
    DecodePass *full;         /* where that is a small one: the VAE's; else NULL */
    LatentPass *aside;        /* feature maps too large to stand behind the generator; NULL: none */
    LatentPass *given;        /* every feature of a given picture; NULL: there are no given pictures */
    EncodePass *encode;       /* of them */
    LatentPass *picture;      /* decoder with a way back, for the reward's gradient; NULL: not used */
    int chunk;
    bool held; /* chunk is all of K: activations wait for the backward half */
    void *held_memory, *shared_memory;
    size_t held_bytes, shared_bytes;
} Networks;

typedef struct NetworksOptions {
    int rounds;            /* of candidates, see step/pools.h */
    int candidates, chunk; /* chunk 0: as large as the budget allows */
    size_t budget;         /* activation bytes, 0: default_budget */
    int height, width;     /* latents */
    bool released_x0, reference;
    Adapter *adapter;
    const FeatureBuilder *features, *aside; /* aside: count 0 for none */
    const FeatureBuilder *given;            /* likewise, of given pictures */
    bool differentiates;                    /* a decoder with a way back is needed */
    Taesd *small;                           /* decoder for the reward; NULL: the VAE's */
    bool redraws;                           /* maps aside look at anchors anew */
} NetworksOptions;

size_t networks_budget(const NetworksOptions *o); /* bytes: the one given, or the default */
/* Activation bytes of the gradient pass over all candidates, or over the chunk that the options name. */
int networks_measure(Pipeline *p, Backend *b, const NetworksOptions *o, size_t *bytes, Error *err);
int networks_open(Pipeline *p, Backend *b, const NetworksOptions *o, Networks *out, Error *err);
void networks_close(Networks *n);

#endif
