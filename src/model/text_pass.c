/* Text pass: tokenizers + CLIP text encoders + a direct-mapped cache of their results. The first stage of the update.
 */
#include "model/text_pass.h"

#include <stdlib.h>
#include <string.h>

#include "engine/plan.h"

typedef struct CacheSlot {
    char *prompt; /* NULL: empty */
    bool truncated;
} CacheSlot;

struct TextPass {
    const TextEncoders *encoders;
    Arena *arena;
    Plan *plan;
    TextNodes nodes;
    int32_t *ids;  /* [encoders,T] */
    float *at_end; /* [T] */
    CacheSlot *slot;
    float *cache;        /* [slots,entry] */
    size_t slots, entry; /* numbers of one prompt */
};

static int build(TextPass *t, Backend *b, Error *err) {
    t->arena = arena_new();
    Graph *g = t->arena ? graph_new(t->arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    text_encoders_build(t->encoders, g, &t->nodes);
    TRY(graph_check(g, err));
    t->nodes.states = output(g, t->nodes.states, "states");
    if (t->nodes.pooled) t->nodes.pooled = output(g, t->nodes.pooled, "pooled");
    TRY(graph_check(g, err));
    TRY(fuse_graph(g, err));
    TRY(plan_new(g, b, &t->plan, err));
    return plan_bind(t->plan, NULL, err);
}

int text_pass_new(Pipeline *p, Backend *b, size_t cache_bytes, TextPass **out, Error *err) {
    TextPass *t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    t->encoders = &p->text;
    t->entry = text_encoders_floats(t->encoders);
    size_t bytes = t->entry * sizeof(float), tokens = (size_t)p->text.tokens;
    t->slots = cache_bytes / bytes > 0 ? cache_bytes / bytes : 1;
    t->slot = calloc(t->slots, sizeof *t->slot);
    t->cache = calloc(t->slots, bytes); /* pages appear as prompts do */
    t->ids = calloc(tokens * (size_t)p->text.count, sizeof *t->ids);
    t->at_end = calloc(tokens, sizeof *t->at_end);
    bool all = t->slot && t->cache && t->ids && t->at_end;
    int code = all ? 0 : fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    if (code >= 0) code = build(t, b, err);
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
    free(t->ids);
    free(t->at_end);
    plan_free(t->plan);
    arena_free(t->arena);
    free(t);
}

size_t text_pass_bytes(const TextPass *t) { return plan_peak(t->plan) + t->slots * t->entry * sizeof(float); }

/* FNV-1a */
static size_t slot_of(const TextPass *t, const char *prompt) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = prompt; *c; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    return (size_t)(hash % t->slots);
}

static int encode(TextPass *t, const char *prompt, float *text, bool *truncated, Error *err) {
    const TextEncoders *e = t->encoders;
    TRY(text_encoders_tokenize(e, prompt, t->ids, t->at_end, truncated, err));
    for (int i = 0; i < e->count; i++) plan_write(t->plan, t->nodes.ids[i], t->ids + (size_t)i * (size_t)e->tokens);
    if (t->nodes.at_end) plan_write(t->plan, t->nodes.at_end, t->at_end);
    TRY(plan_run(t->plan, err));
    plan_read(t->plan, t->nodes.states, text);
    if (t->nodes.pooled) plan_read(t->plan, t->nodes.pooled, text + (size_t)e->tokens * (size_t)e->width);
    return 0;
}

int text_pass_encode(TextPass *t, const char *prompt, const float **text, bool *truncated, Error *err) {
    size_t at = slot_of(t, prompt);
    CacheSlot *slot = &t->slot[at];
    float *values = t->cache + at * t->entry;
    if (!slot->prompt || strcmp(slot->prompt, prompt) != 0) {
        char *copy = strdup(prompt);
        if (!copy) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
        free(slot->prompt);
        slot->prompt = NULL;
        int code = encode(t, prompt, values, &slot->truncated, err);
        if (code < 0) {
            free(copy);
            return code;
        }
        slot->prompt = copy;
    }
    *text = values;
    if (truncated) *truncated = slot->truncated;
    return 0;
}
