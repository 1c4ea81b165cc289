/* Differentiate: pictures with gradients through the VAE decoder, scored by rewards that have one. See differentiate.h.
 */
#include "step/differentiate.h"

#include <stdlib.h>

static int build_picture(const void *maps, Build *b, FeatureInputs *in, Value *out, Error *err) {
    (void)maps;
    Build decoder = *b;
    decoder.weights = in->pipeline->vae_weights;
    decoder.adapter = NULL;
    out[0] = to_tokens(b->g, vae_picture(&decoder, &in->pipeline->vae, in->latents));
    b->next_segment = decoder.next_segment;
    return graph_check(b->g, err);
}

FeatureBuilder differentiate_builder(void) { return (FeatureBuilder){.build = build_picture, .count = 1}; }

/* [n,rows,columns] -> [n,columns,rows] */
static void transpose(const float *from, size_t n, size_t rows, size_t columns, float *to) {
    for (size_t i = 0; i < n; i++, from += rows * columns, to += rows * columns)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
}

typedef struct Work {
    float *tokens, *image, *slope; /* [batch,H*W,3], [batch,3,H,W] twice */
    float *latent;                 /* [batch,C,h,w] */
} Work;

static int run(LatentPass *picture, const GradientSource *source, const Prompt *prompt, Candidates *c, Work *w,
               Error *err) {
    const size_t plane = (size_t)c->height * (size_t)c->width, channels = (size_t)c->feature[c->features - 1].dim,
                 positions = c->latent_count / channels;
    const float *seed = w->tokens;
    const LatentDraw draw = {c->draw, 0};
    for (int first = 0; first < c->count; first += latent_pass_batch(picture)) {
        const int left = c->count - first,
                  count = left < latent_pass_batch(picture) ? left : latent_pass_batch(picture);
        TRY(latent_pass_forward(picture, NULL, &draw, first, c->latents + (size_t)first * c->latent_count, count, err));
        latent_pass_features(picture, 0, w->tokens, count);
        transpose(w->tokens, (size_t)count, plane, 3, w->image);
        TRY(source->ask(source->user, prompt, w->image, count, c->height, c->width, c->reward + first, w->slope, err));
        transpose(w->slope, (size_t)count, 3, plane, w->tokens);
        TRY(latent_pass_backward(picture, &seed, count, w->latent, err));
        transpose(w->latent, (size_t)count, channels, positions, c->reward_gradient + (size_t)first * c->latent_count);
    }
    return 0;
}

int differentiate(LatentPass *picture, const GradientSource *source, const Prompt *prompt, Candidates *c, Error *err) {
    const size_t pixels = (size_t)latent_pass_batch(picture) * 3 * (size_t)c->height * (size_t)c->width;
    const size_t latents = (size_t)latent_pass_batch(picture) * c->latent_count;
    float *block = malloc((3 * pixels + latents) * sizeof *block);
    if (!block) return fail(err, DRPO_E_MEMORY, "out of memory for the reward's gradient");
    Work w = {block, block + pixels, block + 2 * pixels, block + 3 * pixels};
    const int code = run(picture, source, prompt, c, &w, err);
    free(block);
    return code;
}
