/* The scene verifier: finds shapes in a 64x64 picture and judges them against GenEval-style metadata. */
#ifndef DRPO_STEP_SCENE_H
#define DRPO_STEP_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct SceneVerdict {
    bool correct;
    float soft;   /* partial credit in [0,1] */
    float reward; /* 0.5 correct + 0.5 soft */
} SceneVerdict;

typedef struct SceneTask SceneTask; /* parsed metadata */
int scene_task_parse(const char *metadata_json, SceneTask **out, Error *err);
void scene_task_free(SceneTask *t);
/* rgb [64,64,3] */
int scene_verify(const SceneTask *task, const uint8_t *rgb, int height, int width, SceneVerdict *out, Error *err);

#endif
