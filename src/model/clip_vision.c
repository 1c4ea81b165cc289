/* CLIP's vision tower, for rewards that compare a picture with its prompt.
 *
 *     x = norm([class | patches] + positions)
 *     each layer: x += attention(norm1 x);  x += fc2 act(fc1 norm2 x)
 *     embedding = projection of the class token after its own norm
 *
 * Of the last layer only the class token is needed: its query meets all keys, and nothing else is computed. */
#include "model/clip_vision.h"

#include "model/component_config.h"

enum { MAX_WIDTH = 1 << 14, MAX_LAYERS = 128, MAX_SIDE = 1 << 12 };

int clip_vision_config_section(const JsonReader *r, ClipVisionConfig *c) {
    int colours;
    *c = (ClipVisionConfig){0};
    TRY(component_int(r, "hidden_size", 768, 1, MAX_WIDTH, &c->width));
    TRY(component_int(r, "intermediate_size", 3072, 1, 4 * MAX_WIDTH, &c->mlp));
    TRY(component_int(r, "num_hidden_layers", 12, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(r, "num_attention_heads", 12, 1, MAX_WIDTH, &c->heads));
    TRY(component_int(r, "image_size", 224, 1, MAX_SIDE, &c->image));
    TRY(component_int(r, "patch_size", 32, 1, MAX_SIDE, &c->patch));
    TRY(component_int(r, "num_channels", 3, 3, 3, &colours));
    TRY(component_act(r, "hidden_act", ACT_QUICK_GELU, &c->act));
    c->eps = (float)json_get_number(r, "layer_norm_eps", 1e-5);
    TRY(json_finish(r));
    if (!(c->eps > 0) || c->width % c->heads || c->image < c->patch)
        return fail(
            r->err, DRPO_E_INPUT,
            "%s: hidden_size %d, num_attention_heads %d, image_size %d, patch_size %d or layer_norm_eps is wrong",
            r->where, c->width, c->heads, c->image, c->patch);
    return 0;
}

static Value weight(Build *b, Shape shape, const char *name) {
    Param *p = weights_get(b->weights, shape, "vision_model.embeddings.%s", name);
    if (!p) graph_mistake(b->g, "%s", weights_mistake(b->weights));
    return p ? param(b->g, p) : NULL;
}

static Value embeddings(Build *b, const ClipVisionConfig *c, Value pixels) {
    Graph *g = b->g;
    const int64_t side = c->image / c->patch, tokens = side * side + 1, n = pixels->shape.dim[0];
    Value x = layer_conv(b, pixels, c->width, c->patch, c->patch, pad_same(0), false,
                         "vision_model.embeddings.patch_embedding");
    Value class = reshape(g, weight(b, shape1(c->width), "class_embedding"), shape3(1, 1, c->width));
    Value places = weight(b, shape2(tokens, c->width), "position_embedding.weight");
    x = concat(g, broadcast_to(g, class, shape3(n, 1, c->width)), to_tokens(g, x), 1);
    x = add(g, x, reshape(g, places, shape3(1, tokens, c->width)));
    return layer_layer_norm(b, x, c->eps, "vision_model.pre_layrnorm");
}

static Value encoder_layer(Build *b, const ClipVisionConfig *c, Value x, int i) {
    Graph *g = b->g;
    const char *format = "vision_model.encoder.layers.%d.%s";
    graph_segment(g, ++b->next_segment);
    Value h = layer_layer_norm(b, x, c->eps, format, i, "layer_norm1");
    Value k = layer_linear(b, h, c->width, true, format, i, "self_attn.k_proj");
    Value v = layer_linear(b, h, c->width, true, format, i, "self_attn.v_proj");
    if (i == c->layers - 1) {
        h = slice(g, h, 1, 0, 1);
        x = slice(g, x, 1, 0, 1);
    }
    Value q = layer_linear(b, h, c->width, true, format, i, "self_attn.q_proj");
    h = attention(g, q, k, v, c->heads, false);
    x = add(g, x, layer_linear(b, h, c->width, true, format, i, "self_attn.out_proj"));
    h = layer_layer_norm(b, x, c->eps, format, i, "layer_norm2");
    h = act(g, layer_linear(b, h, c->mlp, true, format, i, "mlp.fc1"), c->act);
    x = add(g, x, layer_linear(b, h, c->width, true, format, i, "mlp.fc2"));
    graph_segment(g, 0);
    return x;
}

Value clip_vision_build(Build *b, const ClipVisionConfig *c, int projection, Value pixels) {
    if (!pixels) return NULL;
    weights_ignore(b->weights, "vision_model.embeddings.position_ids"); /* 0, 1, 2, ... in old files */
    Value x = embeddings(b, c, pixels);
    for (int i = 0; i < c->layers; i++) x = encoder_layer(b, c, x, i); /* [N,1,width] after the last */
    x = layer_layer_norm(b, x, c->eps, "vision_model.post_layernorm");
    x = layer_linear(b, x, projection, false, "visual_projection");
    return reshape(b->g, x, shape2(pixels->shape.dim[0], projection));
}
