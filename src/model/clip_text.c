/* CLIP text encoder: token ids -> states that condition the generator. Runs once per prompt, before the update's loop.
 *
 *     x = token embedding + position embedding
 *     each layer: x += attention(norm1 x) where no token sees a later one;  x += fc2 act(fc1 norm2 x)
 *     last = final norm x;  pooled = projection of `last` at the end-of-text token
 *
 * Files name weights "text_model.*"; newer versions of transformers write the same names without that prefix. */
#include "model/clip_text.h"

#include <string.h>

#include "model/component_config.h"

enum { MAX_WIDTH = 1 << 14, MAX_LAYERS = 128, MAX_VOCAB = 1 << 24, OLD_EOS = 2 };

/* ---- config ---- */

static int read_architecture(const JsonReader *r, ClipTextConfig *c) {
    const char *kind = json_get_string(r, "model_type", "clip_text_model"), *name[4];
    size_t n = json_get_strings(r, "architectures", name, 4);
    TRY(json_finish(r));
    if (json_has(r, "_class_name"))
        return component_class(r, "CLIPTextModel"); /* written by diffusers: no text model */
    if (strcmp(kind, "clip_text_model") != 0)
        return fail(r->err, DRPO_E_INPUT, "%s: model_type = '%s' is not supported (supported: clip_text_model)",
                    r->where, kind);
    c->projection = n > 0 && strcmp(name[0], "CLIPTextModelWithProjection") == 0;
    if (n > 0 && !c->projection && strcmp(name[0], "CLIPTextModel") != 0)
        return fail(r->err, DRPO_E_INPUT,
                    "%s: architectures = '%s' is not supported (supported: CLIPTextModel, CLIPTextModelWithProjection)",
                    r->where, name[0]);
    return 0;
}

/* Only these keys change the network; files carry many more that concern other uses. */
int clip_text_config_section(const JsonReader *r, ClipTextConfig *c) {
    TRY(component_int(r, "vocab_size", 49408, 1, MAX_VOCAB, &c->vocab));
    TRY(component_int(r, "hidden_size", 512, 1, MAX_WIDTH, &c->width));
    TRY(component_int(r, "intermediate_size", 2048, 1, 4 * MAX_WIDTH, &c->mlp));
    TRY(component_int(r, "projection_dim", 512, 1, MAX_WIDTH, &c->projection_dim));
    TRY(component_int(r, "num_hidden_layers", 12, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(r, "num_attention_heads", 8, 1, MAX_WIDTH, &c->heads));
    TRY(component_int(r, "max_position_embeddings", 77, 1, MAX_WIDTH, &c->positions));
    TRY(component_int(r, "eos_token_id", 49407, 0, MAX_VOCAB, &c->eos_id));
    TRY(component_act(r, "hidden_act", ACT_QUICK_GELU, &c->act));
    c->eps = (float)json_get_number(r, "layer_norm_eps", 1e-5);
    TRY(json_finish(r));
    if (!(c->eps > 0)) return fail(r->err, DRPO_E_INPUT, "%s: layer_norm_eps must be positive", r->where);
    if (c->width % c->heads)
        return fail(r->err, DRPO_E_INPUT, "%s: hidden_size %d does not divide into num_attention_heads %d", r->where,
                    c->width, c->heads);
    return 0;
}

static int read_all(const JsonReader *r, void *config) {
    ClipTextConfig *c = config;
    TRY(read_architecture(r, c));
    return clip_text_config_section(r, c);
}

int clip_text_config_read(const char *path, ClipTextConfig *c, Error *err) {
    *c = (ClipTextConfig){0};
    return component_read(path, read_all, c, err);
}

/* ---- network ---- */

static const char *name_prefix(const Build *b) {
    return weights_has(b->weights, "embeddings.token_embedding.weight") ? "" : "text_model.";
}

static Value table(Build *b, int64_t rows, int64_t width, const char *prefix, const char *name) {
    Param *p = weights_get(b->weights, shape2(rows, width), "%sembeddings.%s_embedding.weight", prefix, name);
    if (!p) graph_mistake(b->g, "%s", weights_mistake(b->weights));
    return p ? param(b->g, p) : NULL;
}

static Value embeddings(Build *b, const ClipTextConfig *c, Value ids, const char *prefix) {
    Graph *g = b->g;
    if (!ids) return NULL;
    int64_t tokens = ids->shape.dim[1];
    Value words = table(b, c->vocab, c->width, prefix, "token"),
          places = table(b, c->positions, c->width, prefix, "position");
    if (tokens > c->positions) {
        graph_mistake(g, "%s: %lld tokens, but max_position_embeddings is %d", weights_path(b->weights),
                      (long long)tokens, c->positions);
        return NULL;
    }
    if (tokens < c->positions) places = slice(g, places, 0, 0, tokens);
    return add(g, embed(g, ids, words), reshape(g, places, shape3(1, tokens, c->width)));
}

static Value encoder_layer(Build *b, const ClipTextConfig *c, Value x, const char *prefix, int i) {
    Graph *g = b->g;
    const char *format = "%sencoder.layers.%d.%s";
    Value h = layer_layer_norm(b, x, c->eps, format, prefix, i, "layer_norm1");
    Value q = layer_linear(b, h, c->width, true, format, prefix, i, "self_attn.q_proj");
    Value k = layer_linear(b, h, c->width, true, format, prefix, i, "self_attn.k_proj");
    Value v = layer_linear(b, h, c->width, true, format, prefix, i, "self_attn.v_proj");
    h = attention(g, q, k, v, c->heads, true);
    x = add(g, x, layer_linear(b, h, c->width, true, format, prefix, i, "self_attn.out_proj"));
    h = layer_layer_norm(b, x, c->eps, format, prefix, i, "layer_norm2");
    h = act(g, layer_linear(b, h, c->mlp, true, format, prefix, i, "mlp.fc1"), c->act);
    return add(g, x, layer_linear(b, h, c->width, true, format, prefix, i, "mlp.fc2"));
}

int clip_text_build(Build *b, const ClipTextConfig *c, Value ids, Value *last, Value *penultimate) {
    const char *prefix = name_prefix(b);
    /* a table 0, 1, 2, ... that old files carry, and what only clip_text_project uses */
    weights_ignore(b->weights, "text_model.embeddings.position_ids");
    weights_ignore(b->weights, "embeddings.position_ids");
    if (c->projection) weights_ignore(b->weights, "text_projection.weight");
    Value x = embeddings(b, c, ids, prefix);
    for (int i = 0; i < c->layers; i++) {
        if (penultimate && i == c->layers - 1) *penultimate = x;
        x = encoder_layer(b, c, x, prefix, i);
    }
    *last = layer_layer_norm(b, x, c->eps, "%sfinal_layer_norm", prefix);
    return 0; /* mistakes are in the graph */
}

Value clip_text_project(Build *b, const ClipTextConfig *c, Value last, Value at_end) {
    Graph *g = b->g;
    if (!last || !at_end) return NULL;
    Value end = matmul(g, at_end, last, false, false); /* [N,1,T] x [N,T,C] */
    Value pooled = layer_linear(b, end, c->projection_dim, false, "text_projection");
    return reshape(g, pooled, shape2(last->shape.dim[0], c->projection_dim));
}

/* The first end-of-text token. Configs from before its id was written down say 2: there it is the largest id. */
void clip_text_find_end(const ClipTextConfig *c, const int32_t *ids, int tokens, float *at_end) {
    int end = 0;
    for (int i = 1; i < tokens; i++) {
        bool later = c->eos_id == OLD_EOS ? ids[i] > ids[end] : ids[i] == c->eos_id && ids[end] != c->eos_id;
        if (later) end = i;
    }
    for (int i = 0; i < tokens; i++) at_end[i] = i == end ? 1 : 0;
}
