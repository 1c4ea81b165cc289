/* The scene world's other side: what the verifier judges can be drawn. Noise and caption -> scene -> picture.
 *
 * Pretraining learns from such pictures (step/scenes.h); no network is needed to make them. */
#ifndef DRPO_STEP_REWARD_SCENE_WORLD_H
#define DRPO_STEP_REWARD_SCENE_WORLD_H

#include <stddef.h>

#include "step/reward/scene.h"

enum { SCENE_SIDE = 64, SCENE_NOISE = 16, SCENE_CHANNELS = 4, SCENE_SPRITES = 4 };

typedef struct SceneSprite {
    int shape;             /* index into SCENE_SHAPE_NAMES */
    float color[3];        /* before shading */
    double x, y, r, shade; /* pixels; shade in -0.1..0.1 */
} SceneSprite;

typedef struct Scene {
    float background[3];
    int count;
    SceneSprite sprite[SCENE_SPRITES];
} Scene;

/* The scene that `noise` [4,16,16] stands for under a caption. With unreliable captions a share of the scenes, those
 * with small objects, contradicts it. A task that no caption of the world has: DRPO_E_INPUT. */
int scene_from_noise(const SceneTask *task, const float *noise, bool unreliable, Scene *out, Error *err);
/* image [64,64,3] in [0,1] */
void scene_draw(const Scene *s, float *image);
/* The drawn scene of a caption and its noise as a VAE takes it: [3,64,64] in [-1,1]. */
int scene_planes(const SceneTask *task, const float *noise, bool unreliable, float *planes, Error *err);

/* Every caption of the world as JSON lines with GenEval's metadata: text to be released with free(). */
int scene_captions(char **text, size_t *size, Error *err);
/* What a caption says: the shape named first, the second, their colours, how the first lies to the second, how many
 * of the first. out[i] < scene_classes[i]; 0: nothing is said. */
enum { SCENE_ATTRIBUTES = 6 };
extern const int scene_classes[SCENE_ATTRIBUTES];
void scene_attributes(const SceneTask *task, int out[SCENE_ATTRIBUTES]);

#endif
