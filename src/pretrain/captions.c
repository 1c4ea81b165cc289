/* Captions. See captions.h. */
#include "pretrain/captions.h"

const char captions_order[] =
    "tags:single_object=0.08,two_object=0.17,counting=0.15,colors=0.13,position=0.27,color_attr=0.2";

static int open_all(Captions *c, const char *path, uint64_t seed, Error *err) {
    c->arena = arena_new();
    if (!c->arena) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(prompts_read(path, c->arena, &c->list, err));
    TRY(prompt_order_new(captions_order, seed, &c->list, &c->order, err));
    c->task = arena_alloc(c->arena, c->list.count * sizeof *c->task);
    if (!c->task) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < c->list.count; i++) c->task[i] = NULL;
    for (size_t i = 0; i < c->list.count; i++) TRY(scene_task_parse(c->list.items[i].metadata, &c->task[i], err));
    return 0;
}

int captions_open(Captions *c, const char *path, uint64_t seed, Error *err) {
    *c = (Captions){0};
    const int code = open_all(c, path, seed, err);
    if (code < 0) captions_close(c);
    return code;
}

void captions_close(Captions *c) {
    for (size_t i = 0; c->task && i < c->list.count; i++) scene_task_free(c->task[i]);
    prompt_order_free(c->order);
    arena_free(c->arena);
    *c = (Captions){0};
}
