/* The scene verifier's parts: what detection hands to judgement. */
#ifndef DRPO_STEP_REWARD_SCENE_INTERNAL_H
#define DRPO_STEP_REWARD_SCENE_INTERNAL_H

#include "step/reward/scene.h"

enum { SCENE_SIZE = 64, SCENE_SHAPES = 8, SCENE_COLORS = 8, SCENE_GRID = 16, SCENE_MIN_AREA = 24 };
/* 64 x 64 pixels hold no more components of 24 pixels than this. */
enum { SCENE_MAX_OBJECTS = SCENE_SIZE * SCENE_SIZE / SCENE_MIN_AREA, SCENE_MAX_ITEMS = 16 };

extern const char *const SCENE_SHAPE_NAMES[SCENE_SHAPES];
extern const char *const SCENE_COLOR_NAMES[SCENE_COLORS];
extern const float SCENE_TEMPLATES[SCENE_SHAPES][SCENE_GRID * SCENE_GRID];

typedef struct SceneObject {
    int shape, color; /* index, or -1 when nothing fits */
    double correlation[SCENE_SHAPES], best;
    double distance[SCENE_COLORS];
    int x0, y0, x1, y1; /* box [x0,x1) x [y0,y1) */
} SceneObject;

/* How the objects came about, for gradients: what a change of a pixel's colour changes while everything that is decided
 * (background, components, strengths, boxes) stays. */
typedef struct SceneTrace {
    float image[SCENE_SIZE * SCENE_SIZE * 3], contrast[SCENE_SIZE * SCENE_SIZE];
    signed char channel[SCENE_SIZE * SCENE_SIZE]; /* that makes the contrast: 0..2, brighter than the background; 3..5,
                                                     darker */
    int pixel[SCENE_SIZE * SCENE_SIZE];           /* of all objects, one after another */
    int first[SCENE_MAX_OBJECTS], count[SCENE_MAX_OBJECTS];
    float strength[SCENE_MAX_OBJECTS];
} SceneTrace;

extern const float SCENE_PALETTE[SCENE_COLORS][3];

/* image [64,64,3] in [0,1]; trace may be NULL. */
int scene_detect_image(const float *image, SceneObject objects[SCENE_MAX_OBJECTS], SceneTrace *trace);
/* Coverage of pixel i of an object from its contrast. */
static inline float scene_coverage(float contrast, float strength) {
    return contrast < strength ? contrast / strength : 1;
}
/* Where grid point k of the shape's template lies: upper left pixel of the four, and the way to the next. */
typedef struct SceneSample {
    int x, y;
    double right, down;
} SceneSample;
SceneSample scene_sample(const SceneObject *o, int k);

/* rgb [64,64,3] -> objects in reading order of their first pixel; returns how many. */
int scene_detect(const uint8_t *rgb, SceneObject objects[SCENE_MAX_OBJECTS]);

/* "include" or "exclude" entries of the metadata. */
typedef struct SceneItem {
    int shape, count;
    int color;                 /* -1: any */
    int reference;             /* index of the include item that the relation refers to, -1: no relation */
    double toward_x, toward_y; /* direction of the relation, y down */
} SceneItem;

struct SceneTask {
    int n_include, n_exclude, wanted; /* wanted: sum of the include counts */
    SceneItem include[SCENE_MAX_ITEMS], exclude[SCENE_MAX_ITEMS];
};

bool scene_correct(const SceneTask *task, const SceneObject *objects, int count);
double scene_soft(const SceneTask *task, const SceneObject *objects, int count);

/* What partial credit is made of: weight times the match of an object with an item. */
typedef struct SceneCredit {
    int item, object;
    double weight;
} SceneCredit;
typedef struct SceneCredits {
    SceneCredit credit[SCENE_MAX_OBJECTS + SCENE_MAX_ITEMS];
    int count, unused;
    bool used[SCENE_MAX_OBJECTS];
    double sum; /* of weight times match; scene_soft = clamp(sum - 0.1 unused, 0, 1) */
} SceneCredits;
void scene_credits(const SceneTask *task, const SceneObject *objects, int count, SceneCredits *out);
/* Match of an object with an item, and its slopes with respect to the object's correlations and distances. */
double scene_match(const SceneItem *item, const SceneObject *o, double by_correlation[SCENE_SHAPES],
                   double by_distance[SCENE_COLORS]);

/* Score of the smooth variant (scene_smooth.c) and its gradient [64,64,3], may be NULL; image [64,64,3] in [0,1]. NaN:
 * out of memory. */
double scene_smooth(const SceneTask *task, const float *image, double *gradient);

#endif
