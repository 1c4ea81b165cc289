/* Text pass: tokenizer + CLIP text encoder + a direct-mapped cache of states. The first stage of the update. */
#include "model/text_pass.h"

#include <stdlib.h>
#include <string.h>

#include "engine/plan.h"

typedef struct CacheSlot {
    char *prompt; /* NULL: empty */
    bool truncated;
} CacheSlot;

struct TextPass {
    const Tokenizer *tokenizer;
    Arena *arena;
    Plan *plan;
    Value ids, states;
    int tokens, width;
    int32_t *id_values;
    CacheSlot *slot;
    float *cache; /* [slots,T,D] */
    size_t slots;
};

static int build(TextPass *t, Pipeline *p, Backend *b, Error *err) {
    t->arena = arena_new();
    Graph *g = t->arena ? graph_new(t->arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    Build layers = {.g = g, .weights = p->text_weights};
    t->ids = input(g, "ids", DT_I32, shape2(1, t->tokens));
    TRY(clip_text_build(&layers, &p->text, t->ids, &t->states, NULL));
    t->states = output(g, t->states, "states");
    TRY(graph_check(g, err));
    TRY(fuse_graph(g, err));
    TRY(plan_new(g, b, &t->plan, err));
    return plan_bind(t->plan, NULL, err);
}

int text_pass_new(Pipeline *p, Backend *b, size_t cache_bytes, TextPass **out, Error *err) {
    TextPass *t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    t->tokenizer = p->tokenizer;
    t->tokens = tokenizer_length(p->tokenizer);
    t->width = p->text.width;
    size_t entry = (size_t)t->tokens * (size_t)t->width * sizeof(float);
    t->slots = cache_bytes / entry > 0 ? cache_bytes / entry : 1;
    t->slot = calloc(t->slots, sizeof *t->slot);
    t->cache = calloc(t->slots, entry); /* pages appear as prompts do */
    t->id_values = calloc((size_t)t->tokens, sizeof *t->id_values);
    int code = t->slot && t->cache && t->id_values ? 0 : fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    if (code >= 0) code = build(t, p, b, err);
    if (code < 0) {
        text_pass_free(t);
        return code;
    }
    *out = t;
    return 0;
}

void text_pass_free(TextPass *t) {
    if (!t) return;
    for (size_t i = 0; t->slot && i < t->slots; i++) free(t->slot[i].prompt);
    free(t->slot);
    free(t->cache);
    free(t->id_values);
    plan_free(t->plan);
    arena_free(t->arena);
    free(t);
}

size_t text_pass_bytes(const TextPass *t) {
    return plan_peak(t->plan) + t->slots * (size_t)t->tokens * (size_t)t->width * sizeof(float);
}

int text_pass_tokens(const TextPass *t) { return t->tokens; }
int text_pass_width(const TextPass *t) { return t->width; }

/* FNV-1a */
static size_t slot_of(const TextPass *t, const char *prompt) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = prompt; *c; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    return (size_t)(hash % t->slots);
}

int text_pass_encode(TextPass *t, const char *prompt, const float **states, bool *truncated, Error *err) {
    size_t at = slot_of(t, prompt);
    CacheSlot *slot = &t->slot[at];
    float *values = t->cache + at * (size_t)t->tokens * (size_t)t->width;
    if (!slot->prompt || strcmp(slot->prompt, prompt) != 0) {
        char *copy = strdup(prompt);
        if (!copy) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
        free(slot->prompt);
        slot->prompt = NULL;
        int code = tokenizer_encode(t->tokenizer, prompt, t->id_values, &slot->truncated, err);
        if (code >= 0) {
            plan_write(t->plan, t->ids, t->id_values);
            code = plan_run(t->plan, err);
        }
        if (code < 0) {
            free(copy);
            return code;
        }
        plan_read(t->plan, t->states, values);
        slot->prompt = copy;
    }
    *states = values;
    if (truncated) *truncated = slot->truncated;
    return 0;
}
