/* Differentiate: pictures with gradients through the VAE decoder, scored by rewards that have one. See differentiate.h.
 */
#include "step/differentiate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    float *tokens, *image, *slope, *sum; /* [batch,H*W,3], [batch,3,H,W] each */
    float *latent;                       /* [batch,C,h,w] */
    float score[MAX_CANDIDATES];
} Work;

static int check_slope(const Reward *r, const float *slope, size_t n, const float *score, int count, Error *err) {
    for (int i = 0; i < count; i++)
        if (!isfinite(score[i])) return fail(err, DRPO_E_REWARD, "reward %s: a score is not a finite number", r->label);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(slope[i]))
            return fail(err, DRPO_E_REWARD, "reward %s: its gradient holds a NaN or an infinity", r->label);
    return 0;
}

/* Scores and the gradient of their weighted sum for one batch of pictures. */
static int ask(RewardSet *rewards, const Prompt *prompt, const Candidates *c, int count, Work *w, double *score,
               Error *err) {
    const size_t n = (size_t)count * 3 * (size_t)c->height * (size_t)c->width;
    memset(w->sum, 0, n * sizeof *w->sum);
    memset(score, 0, (size_t)count * sizeof *score);
    for (int r = 0; r < rewards->count; r++) {
        Reward *reward = rewards->reward[r];
        TRY(reward->score_gradient(reward, prompt, w->image, count, c->height, c->width, w->score, w->slope, err));
        TRY(check_slope(reward, w->slope, n, w->score, count, err));
        for (int i = 0; i < count; i++) score[i] += (double)reward->weight * w->score[i];
        for (size_t i = 0; i < n; i++) w->sum[i] += reward->weight * w->slope[i];
    }
    return 0;
}

static int run(LatentPass *picture, RewardSet *rewards, const Prompt *prompt, Candidates *c, Work *w, Error *err) {
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
        TRY(ask(rewards, prompt, c, count, w, c->reward + first, err));
        transpose(w->sum, (size_t)count, 3, plane, w->tokens);
        TRY(latent_pass_backward(picture, &seed, count, w->latent, err));
        transpose(w->latent, (size_t)count, channels, positions, c->reward_gradient + (size_t)first * c->latent_count);
    }
    return 0;
}

int differentiate(LatentPass *picture, RewardSet *rewards, const Prompt *prompt, Candidates *c, Error *err) {
    const size_t pixels = (size_t)latent_pass_batch(picture) * 3 * (size_t)c->height * (size_t)c->width;
    for (int r = 0; r < rewards->count; r++)
        if (!rewards->reward[r]->score_gradient)
            return fail(err, DRPO_E_USAGE,
                        "reward %s has no gradient, which --method draft and vggflow need; 'drpo rewards' lists those "
                        "that have one",
                        rewards->reward[r]->label);
    Work *w = calloc(1, sizeof *w);
    float *block = malloc(4 * pixels * sizeof *block);
    if (w) w->latent = malloc((size_t)latent_pass_batch(picture) * c->latent_count * sizeof(float));
    int code = w && block && w->latent ? 0 : fail(err, DRPO_E_MEMORY, "out of memory for the reward's gradient");
    if (code == 0) {
        w->tokens = block, w->image = block + pixels, w->slope = block + 2 * pixels, w->sum = block + 3 * pixels;
        code = run(picture, rewards, prompt, c, w, err);
    }
    if (w) free(w->latent);
    free(w);
    free(block);
    return code < 0 ? code : 0;
}
