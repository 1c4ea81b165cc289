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

#endif
