/* Generator pass: the one-step generator as one planned graph, optionally followed by feature maps and their gradient.
 *
 *     eps = UNet(input_scale z, t, text [, pooled text, time ids]);   x0 = z_factor z - eps_factor eps;   features =
 * phi(x0)
 *
 * With an adapter it is the policy, without one the frozen reference: the same weights, packed once. With `backward`
 * the pass can be run in two halves: forward, then, once d(loss)/d(features) is known, backward into the LoRA
 * gradients. */
#ifndef DRPO_MODEL_GENERATOR_PASS_H
#define DRPO_MODEL_GENERATOR_PASS_H

#include "engine/backend.h"
#include "model/feature_builder.h"

typedef struct GeneratorPassOptions {
    int batch, height, width; /* images per run, latent size */
    bool released_x0;
    Adapter *adapter;               /* NULL: reference */
    const FeatureBuilder *features; /* NULL: latents only */
    bool backward;                  /* needs adapter and features */
    size_t budget;                  /* activation bytes above which segments are recomputed; 0: none */
} GeneratorPassOptions;

typedef struct GeneratorPass GeneratorPass;

/* Bytes of activations that a pass with these options would need, nothing allocated. */
int generator_pass_measure(Pipeline *p, Backend *b, const GeneratorPassOptions *o, size_t *bytes, Error *err);
int generator_pass_new(Pipeline *p, Backend *b, const GeneratorPassOptions *o, GeneratorPass **out, Error *err);
void generator_pass_free(GeneratorPass *g);
size_t generator_pass_bytes(const GeneratorPass *g);
/* Memory of at least generator_pass_bytes, shared with passes that never hold results at the same time; NULL: its own.
 */
int generator_pass_bind(GeneratorPass *g, void *memory, Error *err);

int generator_pass_batch(const GeneratorPass *g);
int generator_pass_feature(const GeneratorPass *g, int i, int *tokens,
                           int *dim); /* 0, or -1 when there is no i-th feature */

/* noise [count,C,h,w], text of one prompt (text_encoders.h: states, pooled); count <= batch (the rest of the batch is
 * padding). */
int generator_pass_forward(GeneratorPass *g, const float *text, const float *noise, int count, Error *err);
/* Dropout (Adapter.dropout) exists in passes with `backward` alone, and acts only in a forward half run by this: masks
 * follow from the seed, step and prompt of `first`, its candidate plus i, and the layer. NULL: nothing is dropped. */
bool generator_pass_drops(const GeneratorPass *g);
int generator_pass_forward_dropped(GeneratorPass *g, const float *text, const float *noise, const RngKey *first,
                                   int count, Error *err);
void generator_pass_latents(GeneratorPass *g, float *latents, int count);          /* [count,C,h,w] */
void generator_pass_features(GeneratorPass *g, int i, float *features, int count); /* [count,tokens,dim] */
/* After forward on the same candidates: seeds[i] [count,tokens,dim]; adds to grad [adapter->count]. */
int generator_pass_backward(GeneratorPass *g, const float *const *seeds, int count, float *grad, Error *err);

#endif
