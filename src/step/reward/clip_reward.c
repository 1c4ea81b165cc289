/* Rewards on CLIP models: pictures through the vision tower in batches, the prompt through the text tower once, and the
 * chain rule back to the pixels.
 *
 * The passes are one set with all threads of its own: pictures of a prompt are one call (lanes = 1), and prompts are
 * scored one after another, so that more than one set would only take memory. */
#include "step/reward/clip_reward.h"

#include <stdlib.h>
#include <string.h>

static int score_all(ClipReward *c, const Prompt *prompt, const Pictures *pictures, float *embeddings, float *scores,
                     Error *err) {
    const float *text = NULL;
    const size_t size = (size_t)c->model.config.projection;
    TRY(backend_commit(c->backend, err));
    if (c->texts) TRY(clip_pass_text(c->pass, prompt->text, &text, err));
    TRY(clip_pass_pictures(c->pass, pictures->rgb, pictures->count, pictures->height, pictures->width, embeddings,
                           err));
    for (int k = 0; k < pictures->count; k++)
        scores[k] = (float)(c->scale * c->rate(c, embeddings + (size_t)k * size, text, NULL));
    return 0;
}

static int clip_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    ClipReward *c = r->state;
    float *embeddings = malloc((size_t)pictures->count * (size_t)c->model.config.projection * sizeof *embeddings);
    if (!embeddings) return fail(err, DRPO_E_MEMORY, "reward %s: out of memory", r->label);
    pthread_mutex_lock(&c->lock);
    const int code = score_all(c, prompt, pictures, embeddings, scores, err);
    pthread_mutex_unlock(&c->lock);
    free(embeddings);
    return code < 0 ? fail_in(err, "reward %s", r->label) : 0;
}

typedef struct Shape2 {
    int height, width;
} Shape2;

static int gradient_of(ClipReward *c, const float *text, const float *image, Shape2 s, float *embedding, float *score,
                       float *gradient, Error *err) {
    const size_t size = (size_t)c->model.config.projection;
    float *seed = embedding + size;
    TRY(clip_pass_pixels(c->pass, image, s.height, s.width, embedding, err));
    *score = (float)(c->scale * c->rate(c, embedding, text, seed));
    for (size_t i = 0; i < size; i++) seed[i] *= (float)c->scale;
    return clip_pass_pixels_gradient(c->pass, seed, gradient, err);
}

static int clip_score_gradient(Reward *r, const Prompt *prompt, const float *images, int n, int height, int width,
                               float *scores, float *gradient, Error *err) {
    ClipReward *c = r->state;
    const size_t one = 3 * (size_t)height * (size_t)width;
    const float *text = NULL;
    float *embedding = malloc(2 * (size_t)c->model.config.projection * sizeof *embedding);
    if (!embedding) return fail(err, DRPO_E_MEMORY, "reward %s: out of memory", r->label);
    pthread_mutex_lock(&c->lock);
    int code = backend_commit(c->backend, err);
    if (code == 0 && c->texts) code = clip_pass_text(c->pass, prompt->text, &text, err);
    for (int k = 0; k < n && code == 0; k++)
        code = gradient_of(c, text, images + (size_t)k * one, (Shape2){height, width}, embedding, scores + k,
                           gradient + (size_t)k * one, err);
    pthread_mutex_unlock(&c->lock);
    free(embedding);
    return code < 0 ? fail_in(err, "reward %s", r->label) : 0;
}

static int clip_plan(Reward *r, const RewardWork *work, Error *err) {
    ClipReward *c = r->state;
    if (c->backend->defer) c->backend->defer(c->backend);
    if (work->prompts->count > c->prompts) c->prompts = work->prompts->count;
    return clip_pass_plan(c->pass, work->pictures, work->gradient, err);
}

static void clip_memory(const Reward *r, RewardMemory *out) {
    const ClipReward *c = r->state;
    out->filled = clip_pass_pending(c->pass, c->prompts, &out->mapped);
}

static void clip_destroy(Reward *r) {
    ClipReward *c = r->state;
    if (c->free_head) c->free_head(c->head);
    clip_pass_free(c->pass);
    backend_free(c->backend); /* its packed weights are known by those of the model */
    clip_close(&c->model);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int open_passes(ClipReward *c, const RewardSpec *spec, const char *get, Error *err) {
    const char *activation = reward_text(spec, "activation");
    const ClipChoice choice = {.path = spec->argument,
                               .tokenizer = c->texts ? reward_text(spec, "tokenizer") : "",
                               .activation = strcmp(activation, "auto") == 0 ? "" : activation,
                               .texts = c->texts,
                               .get = get};
    TRY(clip_open(&choice, &c->model, err));
    c->rule.size = c->model.config.vision.image;
    c->backend = backend_cpu_new((int)reward_number(spec, "threads"), err);
    if (!c->backend) return DRPO_E_MEMORY;
    return clip_pass_new(&c->model, c->backend, &c->rule, &c->pass, err);
}

int clip_reward_open(const RewardSpec *spec, bool texts, CropRule crop, const char *get, Reward **out, Error *err) {
    *out = NULL;
    Reward *r = reward_new(spec, spec->name);
    ClipReward *c = calloc(1, sizeof *c);
    if (!r || !c) {
        free(r);
        free(c);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward '%s'", spec->name);
    }
    pthread_mutex_init(&c->lock, NULL);
    c->texts = texts;
    c->rule = picture_rule_clip;
    c->rule.crop = crop;
    c->scale = reward_number(spec, "scale");
    r->ignores_metadata = true;
    r->state = c;
    r->score = clip_score;
    r->score_gradient = clip_score_gradient;
    r->plan = clip_plan;
    r->memory = clip_memory;
    r->destroy = clip_destroy;
    if (open_passes(c, spec, get, err) < 0) {
        reward_close(r);
        return fail_in(err, "reward %s", spec->name);
    }
    *out = r;
    return 0;
}
