/* The networks of Qwen2-VL.
 *
 *     vision  x = W patch;  each block: x += attention(norm1 x), q and k turned by row and column of their patch;
 *             x += fc2 act(fc1 norm2 x);  then merge^2 neighbours become one state: mlp(concatenated norm x)
 *     text    each layer: x += attention(norm x), q and k turned by their position, no token sees a later one, several
 *             heads of q share one of k and v;  x += down (silu(gate norm x) * (up norm x));  norm x
 *
 * Files of transformers before 4.52 call the towers "visual." and "model.", later ones "model.visual." and
 * "model.language_model.". */
#include "model/qwen2_vl.h"

#include <stdio.h>

typedef struct Names {
    const char *vision, *text;
} Names;

static Names names_of(const Weights *w) {
    bool nested = weights_has(w, "model.language_model.norm.weight");
    return nested ? (Names){"model.visual", "model.language_model"} : (Names){"visual", "model"};
}

/* y = x cos + [-second half | first half] sin, head by head; x [1,T,H*d], cosine and sine [T,1,d] */
static Value rotate(Graph *g, Value x, int heads, Value cosine, Value sine) {
    if (!x || !cosine || !sine) return NULL;
    int64_t tokens = x->shape.dim[1], width = x->shape.dim[2], size = width / heads;
    Value head = reshape(g, x, shape3(tokens, heads, size));
    Value first = slice(g, head, 2, 0, size / 2), second = slice(g, head, 2, size / 2, size / 2);
    Value turned = concat(g, affine(g, second, -1, 0), first, 2);
    head = add(g, mul(g, head, cosine), mul(g, turned, sine));
    return reshape(g, head, shape3(1, tokens, width));
}

/* Every head `times` in a row: [1,T,H*d] -> [1,T,H*times*d] */
static Value repeat_heads(Graph *g, Value x, int heads, int times) {
    if (!x || times == 1) return x;
    int64_t tokens = x->shape.dim[1], width = x->shape.dim[2], size = width / heads;
    Value one = reshape(g, x, shape3(tokens * heads, 1, size));
    return reshape(g, broadcast_to(g, one, shape3(tokens * heads, times, size)), shape3(1, tokens, width * times));
}

/* ---- vision ---- */

static Value vision_block(Build *b, const QwenVisionConfig *c, Value x, Value cosine, Value sine, const char *prefix,
                          int i) {
    Graph *g = b->g;
    const char *format = "%s.blocks.%d.%s";
    Value h = layer_layer_norm(b, x, c->eps, format, prefix, i, "norm1");
    Value qkv = layer_linear(b, h, 3 * c->width, true, format, prefix, i, "attn.qkv");
    Value q = rotate(g, slice(g, qkv, 2, 0, c->width), c->heads, cosine, sine);
    Value k = rotate(g, slice(g, qkv, 2, c->width, c->width), c->heads, cosine, sine);
    h = attention(g, q, k, slice(g, qkv, 2, 2 * c->width, c->width), c->heads, false);
    x = add(g, x, layer_linear(b, h, c->width, true, format, prefix, i, "attn.proj"));
    h = layer_layer_norm(b, x, c->eps, format, prefix, i, "norm2");
    h = act(g, layer_linear(b, h, c->mlp, true, format, prefix, i, "mlp.fc1"), c->act);
    return add(g, x, layer_linear(b, h, c->width, true, format, prefix, i, "mlp.fc2"));
}

/* The convolution whose window is its stride: a product of whole patches. */
static Value embed_patches(Build *b, const QwenVisionConfig *c, Value patches, const char *prefix) {
    Param *p =
        weights_get_matrix(b->weights, c->width, qwen2_vl_patch_numbers(c), "%s.patch_embed.proj.weight", prefix);
    if (!p) graph_mistake(b->g, "%s", weights_mistake(b->weights));
    return p && patches ? linear(b->g, patches, param(b->g, p), NULL) : NULL;
}

Value qwen2_vl_vision_build(Build *b, const Qwen2VlConfig *c, Value patches, Value cosine, Value sine) {
    Graph *g = b->g;
    const QwenVisionConfig *v = &c->vision;
    const char *prefix = names_of(b->weights).vision;
    Value x = embed_patches(b, v, patches, prefix);
    for (int i = 0; i < v->layers; i++) x = vision_block(b, v, x, cosine, sine, prefix, i);
    x = layer_layer_norm(b, x, v->eps, "%s.merger.ln_q", prefix);
    if (!x) return NULL;
    int64_t cell = (int64_t)v->merge * v->merge, wide = cell * v->width;
    x = reshape(g, x, shape3(1, x->shape.dim[1] / cell, wide));
    x = act(g, layer_linear(b, x, wide, true, "%s.merger.mlp.0", prefix), ACT_GELU);
    return layer_linear(b, x, c->width, true, "%s.merger.mlp.2", prefix);
}

/* ---- text ---- */

static Value layer_rms_norm(Build *b, Value x, float eps, const char *module) {
    if (!x) return NULL;
    return rms_norm(b->g, x, layer_weight(b, shape1(x->shape.dim[2]), module, "weight"), eps);
}

/* `last`: of the final layer only the last token's result is wanted; its keys and values are those of all tokens. */
static Value decoder_layer(Build *b, const Qwen2VlConfig *c, Value x, Value cosine, Value sine, bool last,
                           const char *name) {
    Graph *g = b->g;
    char norm[160];
    if (!x || !cosine || !sine) return NULL;
    int64_t tokens = x->shape.dim[1], size = c->width / c->heads, narrow = size * c->kv_heads;
    snprintf(norm, sizeof norm, "%s.input_layernorm", name);
    Value h = layer_rms_norm(b, x, c->eps, norm), seeing = h, cos_q = cosine, sin_q = sine;
    if (last) {
        x = slice(g, x, 1, tokens - 1, 1);
        seeing = slice(g, h, 1, tokens - 1, 1);
        cos_q = slice(g, cosine, 0, tokens - 1, 1);
        sin_q = slice(g, sine, 0, tokens - 1, 1);
    }
    Value q = rotate(g, layer_linear(b, seeing, c->width, true, "%s.self_attn.q_proj", name), c->heads, cos_q, sin_q);
    Value k = rotate(g, layer_linear(b, h, narrow, true, "%s.self_attn.k_proj", name), c->kv_heads, cosine, sine);
    Value v = layer_linear(b, h, narrow, true, "%s.self_attn.v_proj", name);
    int times = c->heads / c->kv_heads;
    h = attention(g, q, repeat_heads(g, k, c->kv_heads, times), repeat_heads(g, v, c->kv_heads, times), c->heads,
                  !last);
    x = add(g, x, layer_linear(b, h, c->width, false, "%s.self_attn.o_proj", name));
    snprintf(norm, sizeof norm, "%s.post_attention_layernorm", name);
    h = layer_rms_norm(b, x, c->eps, norm);
    Value gate = silu(g, layer_linear(b, h, c->mlp, false, "%s.mlp.gate_proj", name));
    h = mul(g, gate, layer_linear(b, h, c->mlp, false, "%s.mlp.up_proj", name));
    return add(g, x, layer_linear(b, h, c->width, false, "%s.mlp.down_proj", name));
}

Value qwen2_vl_text_build(Build *b, const Qwen2VlConfig *c, Value states, Value cosine, Value sine, bool last_only) {
    char name[128];
    const char *prefix = names_of(b->weights).text;
    Value x = states;
    for (int i = 0; i < c->layers; i++) {
        snprintf(name, sizeof name, "%s.layers.%d", prefix, i);
        x = decoder_layer(b, c, x, cosine, sine, last_only && i == c->layers - 1, name);
    }
    snprintf(name, sizeof name, "%s.norm", prefix);
    return layer_rms_norm(b, x, c->eps, name);
}

Param *qwen2_vl_embeddings(Weights *weights, const Qwen2VlConfig *c) {
    Shape shape = shape2(1, c->width);
    const char *prefix = names_of(weights).text;
    (void)weights_shape(weights, &shape, "%s.embed_tokens.weight", prefix);
    int64_t rows = shape.rank == 2 ? shape.dim[0] : 1;
    return weights_get(weights, shape2(rows, c->width), "%s.embed_tokens.weight", prefix);
}
