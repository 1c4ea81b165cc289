/* Scenes: caption and noise -> scene -> picture -> latents -> features of the reference. See scenes.h. */
#include "step/scenes.h"

#include <stdlib.h>

#include "step/reward/scene_world.h"

enum { ROLE_SCENE = 4, IMAGE = 3 * SCENE_SIDE * SCENE_SIDE };

/* The anchor key is the latents as [h*w, C]. */
static void fill_anchor(const FeatureSet *f, const float *latents, int index) {
    float *to = f->reference + (size_t)index * (size_t)f->tokens * (size_t)f->dim;
    for (int k = 0; k < f->dim; k++)
        for (int j = 0; j < f->tokens; j++) to[j * f->dim + k] = latents[k * f->tokens + j];
}

static int look_at(const ScenePasses *p, const float *text, const float *latents, int index, Candidates *c,
                   Error *err) {
    const LatentDraw draw = {c->draw, ROLE_SCENE};
    int keys = 0, tokens, dim;
    TRY(latent_pass_forward(p->look, text, &draw, index, latents, 1, err));
    for (; latent_pass_feature(p->look, keys, &tokens, &dim) == 0; keys++)
        latent_pass_features(p->look, keys, c->feature[keys].reference + (size_t)index * (size_t)tokens * (size_t)dim,
                             1);
    if (keys < c->features) fill_anchor(&c->feature[keys], latents, index);
    return 0;
}

static int fill_all(const ScenePasses *p, bool reliable, const float *text, const SceneTask *task, float *image,
                    float *latents, Candidates *c, Error *err) {
    for (int i = 0; i < c->count; i++) {
        TRY(scene_planes(task, c->noise + (size_t)i * c->latent_count, !reliable, image, err));
        TRY(encode_pass_run(p->encode, image, NULL, latents, err));
        TRY(look_at(p, text, latents, i, c, err));
    }
    return 0;
}

int scenes_reference(const ScenePasses *passes, bool reliable, const float *text, const Prompt *prompt, Candidates *c,
                     Error *err) {
    SceneTask *task = NULL;
    if (c->height != SCENE_SIDE || c->width != SCENE_SIDE ||
        c->latent_count != SCENE_CHANNELS * SCENE_NOISE * SCENE_NOISE)
        return fail(err, DRPO_E_USAGE,
                    "scenes are %d pixels a side and stand for noise [%d,%d,%d]; this model makes pictures of %d x %d",
                    SCENE_SIDE, SCENE_CHANNELS, SCENE_NOISE, SCENE_NOISE, c->width, c->height);
    TRY(scene_task_parse(prompt->metadata, &task, err));
    float *image = malloc(IMAGE * sizeof *image);
    float *latents = malloc(c->latent_count * sizeof *latents);
    int code = image && latents ? fill_all(passes, reliable, text, task, image, latents, c, err)
                                : fail(err, DRPO_E_MEMORY, "out of memory for a scene");
    free(image);
    free(latents);
    scene_task_free(task);
    return code;
}
