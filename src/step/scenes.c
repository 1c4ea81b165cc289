/* Scenes: caption and noise -> scene -> picture -> latents -> features of the reference. See scenes.h. */
#include "step/scenes.h"

#include <stdlib.h>

#include "step/reward/scene_world.h"

enum { ROLE_SCENE = 4, PLANE = SCENE_SIDE * SCENE_SIDE };

typedef struct Drawing {
    float picture[PLANE * 3], image[3 * PLANE]; /* [64,64,3] in [0,1]; [3,64,64] in [-1,1] */
} Drawing;

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

static int draw_scene(const SceneTask *task, const float *noise, bool unreliable, Drawing *d, Error *err) {
    Scene scene;
    TRY(scene_from_noise(task, noise, unreliable, &scene, err));
    scene_draw(&scene, d->picture);
    for (int i = 0; i < PLANE; i++)
        for (int k = 0; k < 3; k++) d->image[k * PLANE + i] = 2 * d->picture[i * 3 + k] - 1;
    return 0;
}

static int fill_all(const ScenePasses *p, bool reliable, const float *text, const SceneTask *task, Drawing *d,
                    float *latents, Candidates *c, Error *err) {
    for (int i = 0; i < c->count; i++) {
        TRY(draw_scene(task, c->noise + (size_t)i * c->latent_count, !reliable, d, err));
        TRY(encode_pass_run(p->encode, d->image, NULL, latents, err));
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
    Drawing *drawing = malloc(sizeof *drawing);
    float *latents = malloc(c->latent_count * sizeof *latents);
    int code = drawing && latents ? fill_all(passes, reliable, text, task, drawing, latents, c, err)
                                  : fail(err, DRPO_E_MEMORY, "out of memory for a scene");
    free(drawing);
    free(latents);
    scene_task_free(task);
    return code;
}
