/* What a caption of the scene world says, as classes: what its words are learnt by (pretrain/text.h). */
#include "step/reward/scene_internal.h"
#include "step/reward/scene_world.h"

enum { RELATIONS = 4, MOST = 4 };

const int scene_classes[SCENE_ATTRIBUTES] = {SCENE_SHAPES + 1, SCENE_SHAPES + 1, SCENE_COLORS + 1,
                                             SCENE_COLORS + 1, RELATIONS + 1,    MOST + 1};

static int relation_of(const SceneItem *item) {
    if (item->reference < 0) return 0;
    return item->toward_x < 0 ? 1 : item->toward_x > 0 ? 2 : item->toward_y < 0 ? 3 : 4;
}

void scene_attributes(const SceneTask *task, int out[SCENE_ATTRIBUTES]) {
    static const SceneItem none = {.shape = -1, .color = -1, .reference = -1};
    const SceneItem *a = task->n_include > 0 ? &task->include[0] : &none;
    const SceneItem *b = task->n_include > 1 ? &task->include[1] : &none;
    if (b->reference >= 0) { /* "b left of a": b is named first */
        const SceneItem *first = b;
        b = a;
        a = first;
    }
    const int classes[SCENE_ATTRIBUTES] = {a->shape + 1, b->shape + 1,   a->color + 1,
                                           b->color + 1, relation_of(a), a->count < MOST ? a->count : MOST};
    for (int i = 0; i < SCENE_ATTRIBUTES; i++) out[i] = classes[i];
}
