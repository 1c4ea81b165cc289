/* Text pass: tokenizers + CLIP text encoders + a direct-mapped cache of their results. The first stage of the update.
 */
#include "model/text_pass.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan.h"
#include "model/text_cache.h"

enum { CACHE_BYTES = 16 << 20 };

typedef struct CacheSlot {
    char *prompt; /* NULL: empty */
    bool truncated;
} CacheSlot;

struct TextPass {
    Pipeline *pipeline;
    const TextEncoders *encoders;
    const Backend *like; /* of whoever shares this */
    int users;
    Backend *backend; /* of the encoders, while they are there */
    Arena *arena;
    Plan *plan;
    TextNodes nodes;
    TextCache *kept; /* NULL: none */
    bool must_keep;
    Error refused; /* the first that could not be kept */
    int32_t *ids;  /* [encoders,T] */
    float *at_end; /* [T] */
    CacheSlot *slot;
    float *cache;        /* [slots,entry] */
    size_t slots, entry; /* numbers of one prompt */
};

/* ---- the encoders come and go ---- */
static int build(TextPass *t, Error *err) {
    t->arena = arena_new();
    Graph *g = t->arena ? graph_new(t->arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    text_encoders_build(t->encoders, g, &t->nodes);
    TRY(graph_check(g, err));
    t->nodes.states = output(g, t->nodes.states, "states");
    if (t->nodes.pooled) t->nodes.pooled = output(g, t->nodes.pooled, "pooled");
    TRY(graph_check(g, err));
    TRY(fuse_graph(g, err));
    TRY(plan_new(g, t->backend, &t->plan, err));
    return plan_bind(t->plan, NULL, err);
}

static void release(TextPass *t) {
    plan_free(t->plan);
    arena_free(t->arena);
    if (t->backend) backend_free(t->backend);
    t->plan = NULL;
    t->arena = NULL;
    t->backend = NULL;
    for (int i = 0; i < t->encoders->count; i++) weights_drop_pages(t->encoders->encoder[i].weights);
#ifdef __GLIBC__
    malloc_trim(0); /* hundreds of freed weights below something small that is not freed */
#endif
}

static int load(TextPass *t, Error *err) {
    if (t->plan) return 0;
    t->backend = t->like->another(t->like, err);
    int code = t->backend ? build(t, err) : err->code;
    if (code < 0) release(t);
    return code;
}

/* ---- opening ---- */
static int allocate(TextPass *t, Error *err) {
    size_t bytes = t->entry * sizeof(float), tokens = (size_t)t->encoders->tokens;
    t->slots = CACHE_BYTES / bytes > 0 ? CACHE_BYTES / bytes : 1;
    t->slot = calloc(t->slots, sizeof *t->slot);
    t->cache = calloc(t->slots, bytes); /* pages appear as prompts do */
    t->ids = calloc(tokens * (size_t)t->encoders->count, sizeof *t->ids);
    t->at_end = calloc(tokens, sizeof *t->at_end);
    bool all = t->slot && t->cache && t->ids && t->at_end;
    return all ? 0 : fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
}

int text_pass_new(Pipeline *p, Backend *b, TextPass **out, Error *err) {
    TextPass *t = p->text_pass;
    if (t && t->like == b) {
        t->users++;
        *out = t;
        return 0;
    }
    t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    *t = (TextPass){.pipeline = p, .encoders = &p->text, .like = b, .users = 1};
    t->entry = text_encoders_floats(t->encoders);
    int code = allocate(t, err);
    if (code >= 0) code = load(t, err);
    if (code < 0) {
        text_pass_free(t);
        return code;
    }
    if (!p->text_pass) p->text_pass = t;
    *out = t;
    return 0;
}

void text_pass_free(TextPass *t) {
    if (!t || --t->users > 0) return;
    if (t->pipeline->text_pass == t) t->pipeline->text_pass = NULL;
    for (size_t i = 0; t->slot && i < t->slots; i++) free(t->slot[i].prompt);
    free(t->slot);
    free(t->cache);
    free(t->ids);
    free(t->at_end);
    text_cache_close(t->kept);
    release(t);
    free(t);
}

size_t text_pass_bytes(const TextPass *t) {
    return (t->plan ? plan_peak(t->plan) : 0) + t->slots * t->entry * sizeof(float);
}

size_t text_pass_remembered(const TextPass *t, size_t prompts) {
    return (prompts < t->slots ? prompts : t->slots) * t->entry * sizeof(float);
}

size_t text_pass_pending(const TextPass *t) {
    size_t bytes = t->backend ? backend_pending(t->backend) : 0;
    for (int i = 0; i < t->encoders->count && t->backend; i++)
        bytes += weights_in_place(t->encoders->encoder[i].weights, t->backend);
    return bytes;
}

/* ---- encoding ---- */

/* FNV-1a */
static size_t slot_of(const TextPass *t, const char *prompt) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = prompt; *c; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    return (size_t)(hash % t->slots);
}

/* Of the prompt whose ids are in t->ids. */
static int compute(TextPass *t, float *text, Error *err) {
    const TextEncoders *e = t->encoders;
    TRY(load(t, err));
    TRY(backend_commit(t->backend, err));
    for (int i = 0; i < e->count; i++) plan_write(t->plan, t->nodes.ids[i], t->ids + (size_t)i * (size_t)e->tokens);
    if (t->nodes.at_end) plan_write(t->plan, t->nodes.at_end, t->at_end);
    TRY(plan_run(t->plan, err));
    plan_read(t->plan, t->nodes.states, text);
    if (t->nodes.pooled) plan_read(t->plan, t->nodes.pooled, text + (size_t)e->tokens * (size_t)e->width);
    return 0;
}

static int keep(TextPass *t, const float *text, Error *err) {
    Error why = {0};
    int code = text_cache_put(t->kept, t->ids, text, &why);
    if (code == 0) return 0;
    if (!t->refused.code) t->refused = why;
    return t->must_keep ? fail(err, code, "%s", why.text) : 0;
}

static int encode(TextPass *t, const char *prompt, float *text, bool *truncated, Error *err) {
    TRY(text_encoders_tokenize(t->encoders, prompt, t->ids, t->at_end, truncated, err));
    if (t->kept && text_cache_get(t->kept, t->ids, text)) return 0;
    const bool was_there = t->plan;
    TRY(compute(t, text, err));
    if (!t->kept) return 0;
    if (!was_there) release(t);
    return keep(t, text, err);
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

/* ---- all prompts of a run, ahead ---- */
int text_pass_keep(TextPass *t, const char *folder, bool must, Error *err) {
    text_cache_close(t->kept);
    t->must_keep = must;
    return text_cache_open(folder, t->encoders, t->like->name, &t->kept, err);
}

const char *text_pass_complaint(const TextPass *t) { return t->refused.code ? t->refused.text : NULL; }

bool text_pass_keeps(const TextPass *t) { return t->kept; }

/* missing[i]: prompt i has to be encoded. `text` is scratch. */
static int find_missing(TextPass *t, const char *const *prompts, size_t n, bool *missing, size_t *count, float *text,
                        Error *err) {
    for (size_t i = 0; i < n; i++) {
        TRY(text_encoders_tokenize(t->encoders, prompts[i], t->ids, t->at_end, NULL, err));
        missing[i] = !text_cache_get(t->kept, t->ids, text);
        *count += missing[i];
    }
    return 0;
}

static int encode_missing(TextPass *t, const char *const *prompts, size_t n, bool *missing, float *text,
                          TextProgress *each, void *user, Error *err) {
    size_t count = 0, done = 0;
    TRY(find_missing(t, prompts, n, missing, &count, text, err));
    if (count) TRY(load(t, err));
    for (size_t i = 0; i < n && !t->refused.code; i++) { /* what is not kept would be encoded for nothing */
        if (!missing[i]) continue;
        if (each) TRY(each(user, done, count, err));
        TRY(encode(t, prompts[i], text, NULL, err));
        done++;
    }
    return 0;
}

int text_pass_prepare(TextPass *t, const char *const *prompts, size_t n, TextProgress *each, void *user, Error *err) {
    if (!t->kept) return 0;
    bool *missing = calloc(n + 1, sizeof *missing);
    float *text = malloc(t->entry * sizeof *text);
    int code = missing && text ? encode_missing(t, prompts, n, missing, text, each, user, err)
                               : fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    free(missing);
    free(text);
    release(t);
    return code;
}
