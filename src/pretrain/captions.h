/* Captions: the scene world's, drawn by tag, with what their scenes and the classes of their words follow from. */
#ifndef DRPO_PRETRAIN_CAPTIONS_H
#define DRPO_PRETRAIN_CAPTIONS_H

#include "step/reward/scene_world.h"
#include "train/prompt_order.h"

extern const char captions_order[]; /* how often each tag comes, as --prompt-order says it */

typedef struct Captions {
    Arena *arena;
    PromptList list;
    PromptOrder *order;
    SceneTask **task; /* [list.count] */
} Captions;

int captions_open(Captions *c, const char *path, uint64_t seed, Error *err);
void captions_close(Captions *c); /* fine after a failed open, and of zeros */

#endif
