/* Latent pass: a frozen function of clean latents as one planned graph, forward and back to the latents.
 *
 *     features = phi(x0),   d(loss)/d(x0) = (d phi/d x0)^T d(loss)/d(features)
 *
 * For maps that are too large to stand behind the generator in one graph: pixels behind the VAE decoder, another UNet.
 * They go through in small batches with recomputation, so that memory does not grow with the number of candidates. */
#ifndef DRPO_MODEL_LATENT_PASS_H
#define DRPO_MODEL_LATENT_PASS_H

#include "model/feature_builder.h"

typedef struct LatentPassOptions {
    int batch, height, width; /* latents per run, their size */
    const FeatureBuilder *features;
    bool backward;
    size_t budget; /* activation bytes above which segments are recomputed; 0: none */
    bool tight;    /* where even full recomputation exceeds the budget, take the least that is possible */
} LatentPassOptions;

/* Of a prompt and an update: what random numbers depend on; the candidate is added. */
typedef struct LatentDraw {
    RngKey key;
    int role; /* feature_builder.h */
} LatentDraw;

typedef struct LatentPass LatentPass;

int latent_pass_measure(Pipeline *p, Backend *b, const LatentPassOptions *o, size_t *bytes, Error *err);
int latent_pass_new(Pipeline *p, Backend *b, const LatentPassOptions *o, LatentPass **out, Error *err);
void latent_pass_free(LatentPass *l);
size_t latent_pass_bytes(const LatentPass *l);
/* Memory of at least latent_pass_bytes; NULL: its own. */
int latent_pass_bind(LatentPass *l, void *memory, Error *err);
int latent_pass_batch(const LatentPass *l);
int latent_pass_feature(const LatentPass *l, int i, int *tokens, int *dim); /* 0, or -1: there is no i-th */

/* latents [count,C,h,w] of candidates first..first+count-1, count <= batch; text of their prompt (text_encoders.h), may
 * be NULL where no map needs it. */
int latent_pass_forward(LatentPass *l, const float *text, const LatentDraw *draw, int first, const float *latents,
                        int count, Error *err);
void latent_pass_features(LatentPass *l, int i, float *features, int count); /* [count,tokens,dim] */
/* After forward of the same latents: seeds[i] [count,tokens,dim]; gradient [count,C,h,w] is written. */
int latent_pass_backward(LatentPass *l, const float *const *seeds, int count, float *gradient, Error *err);

#endif
