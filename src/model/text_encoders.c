/* Text encoders: opening, tokenizing and building them. The text stage of the update runs what is built here. */
#include "model/text_encoders.h"

#include <string.h>

static const char *const FOLDER[MAX_ENCODERS] = {"text_encoder", "text_encoder_2"};
static const char *const TOKENIZER[MAX_ENCODERS] = {"tokenizer", "tokenizer_2"};
static const char *const CONFIG[MAX_ENCODERS] = {"text_encoder/config.json", "text_encoder_2/config.json"};

static int check_tokenizer(const TextEncoder *e, int i, const char *config, Error *err) {
    int vocab = tokenizer_vocab(e->tokenizer), length = tokenizer_length(e->tokenizer);
    if (vocab > e->config.vocab)
        return fail(err, DRPO_E_INPUT, "%s: the %s has %d entries, the encoder only %d (vocab_size)", config,
                    TOKENIZER[i], vocab, e->config.vocab);
    if (length > e->config.positions)
        return fail(err, DRPO_E_INPUT,
                    "%s: the %s makes %d tokens, the encoder has %d positions (max_position_embeddings)", config,
                    TOKENIZER[i], length, e->config.positions);
    return 0;
}

static int open_one(const ModelFiles *f, int i, TextEncoder *e, Error *err) {
    const char *config;
    TRY(model_tokenizer(f, TOKENIZER[i], &e->tokenizer, err));
    TRY(model_document(f, CONFIG[i], &config, err));
    TRY(clip_text_config_read(config, &e->config, err));
    TRY(check_tokenizer(e, i, CONFIG[i], err));
    TRY(model_weights(f, FOLDER[i], "model", &e->weights, err));
    weights_keep_stored(e->weights);
    weights_keep_precise(e->weights); /* a prompt is encoded once, and kept for every kind of arithmetic */
    return 0;
}

/* The pooled vector comes from the first encoder that has a projection; there must be one, the second. */
static int check_pair(const TextEncoders *t, Error *err) {
    const TextEncoder *a = &t->encoder[0], *b = &t->encoder[1];
    if (a->config.projection || !b->config.projection)
        return fail(err, DRPO_E_INPUT,
                    "text_encoder and text_encoder_2 of a StableDiffusionXLPipeline are a CLIPTextModel and a "
                    "CLIPTextModelWithProjection (\"architectures\" of their config.json)");
    if (tokenizer_length(a->tokenizer) != tokenizer_length(b->tokenizer))
        return fail(err, DRPO_E_INPUT, "tokenizer makes %d tokens, tokenizer_2 makes %d; they must be as many",
                    tokenizer_length(a->tokenizer), tokenizer_length(b->tokenizer));
    return 0;
}

int text_encoders_open(const ModelFiles *f, bool sdxl, TextEncoders *out, Error *err) {
    *out = (TextEncoders){.count = sdxl ? 2 : 1};
    for (int i = 0; i < out->count; i++) {
        TRY(open_one(f, i, &out->encoder[i], err));
        out->width += out->encoder[i].config.width;
    }
    if (sdxl) TRY(check_pair(out, err));
    out->tokens = tokenizer_length(out->encoder[0].tokenizer);
    out->pooled = sdxl ? out->encoder[1].config.projection_dim : 0;
    return 0;
}

void text_encoders_close(TextEncoders *t) {
    for (int i = 0; i < t->count; i++) {
        tokenizer_free(t->encoder[i].tokenizer);
        weights_free(t->encoder[i].weights);
    }
    *t = (TextEncoders){0};
}

size_t text_encoders_bytes(const TextEncoders *t) {
    size_t bytes = 0;
    for (int i = 0; i < t->count; i++) bytes += weights_bytes(t->encoder[i].weights);
    return bytes;
}

size_t text_encoders_floats(const TextEncoders *t) { return (size_t)t->tokens * (size_t)t->width + (size_t)t->pooled; }

void text_encoders_build(const TextEncoders *t, Graph *g, TextNodes *out) {
    *out = (TextNodes){0};
    for (int i = 0; i < t->count; i++) {
        const TextEncoder *e = &t->encoder[i];
        Build build = {.g = g, .weights = e->weights};
        Value last = NULL, penultimate = NULL;
        out->ids[i] = input(g, TOKENIZER[i], DT_I32, shape2(1, t->tokens));
        clip_text_build(&build, &e->config, out->ids[i], &last, &penultimate);
        Value states = t->count == 1 ? last : penultimate;
        out->states = i ? concat(g, out->states, states, 2) : states;
        if (t->pooled && e->config.projection) {
            out->at_end = input(g, "at_end", DT_F32, shape3(1, 1, t->tokens));
            out->pooled = clip_text_project(&build, &e->config, last, out->at_end);
        }
    }
}

int text_encoders_check(const TextEncoders *t, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) {
        arena_free(arena);
        return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    }
    TextNodes nodes;
    int code = 0;
    text_encoders_build(t, g, &nodes);
    /* A tensor that is missing makes the graph fail too; its name says more. */
    for (int i = 0; i < t->count && code >= 0; i++) code = weights_finish(t->encoder[i].weights, err);
    if (code >= 0) code = graph_check(g, err);
    arena_free(arena);
    return code;
}

int text_encoders_tokenize(const TextEncoders *t, const char *prompt, int32_t *ids, float *at_end, bool *truncated,
                           Error *err) {
    bool cut = false;
    for (int i = 0; i < t->count; i++) {
        bool one;
        int32_t *row = ids + (size_t)i * (size_t)t->tokens;
        TRY(tokenizer_encode(t->encoder[i].tokenizer, prompt, row, &one, err));
        if (t->encoder[i].config.projection) clip_text_find_end(&t->encoder[i].config, row, t->tokens, at_end);
        cut = cut || one;
    }
    if (truncated) *truncated = cut;
    return 0;
}
