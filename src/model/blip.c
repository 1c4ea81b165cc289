/* The two networks of ImageReward, under the names of its checkpoint.
 *
 *     picture  x = [cls | patches] + positions;  per block: x += attention(norm1 x);  x += fc2 gelu(fc1 norm2 x);  norm
 * x text     h = norm(word + position);  per layer: h = norm(h + attention(h)); h = norm(h + attention(h, picture));  h
 * = norm(h + dense2 gelu(dense1 h)) value    five linear layers on the state of the first token, without activations
 * between them
 *
 * The authors pad texts to 35 tokens and hide the padding; a text of its own length gives the same. */
#include "model/imagereward.h"

#include <stdio.h>

static const float VISION_EPS = 1e-6f;

static Value weight(Build *b, Shape shape, const char *name) {
    Param *p = weights_get(b->weights, shape, "%s", name);
    if (!p) graph_mistake(b->g, "%s", weights_mistake(b->weights));
    return p ? param(b->g, p) : NULL;
}

/* ---- picture ---- */

static Value vision_block(Build *b, const ImageRewardConfig *c, Value x, int i) {
    Graph *g = b->g;
    const char *format = "blip.visual_encoder.blocks.%d.%s";
    const int64_t width = c->vision_width;
    Value h = layer_layer_norm(b, x, VISION_EPS, format, i, "norm1");
    Value qkv = layer_linear(b, h, 3 * width, true, format, i, "attn.qkv");
    h = attention(g, slice(g, qkv, 2, 0, width), slice(g, qkv, 2, width, width), slice(g, qkv, 2, 2 * width, width),
                  c->vision_width / c->head, false);
    x = add(g, x, layer_linear(b, h, width, true, format, i, "attn.proj"));
    h = layer_layer_norm(b, x, VISION_EPS, format, i, "norm2");
    h = act(g, layer_linear(b, h, c->vision_mlp, true, format, i, "mlp.fc1"), ACT_GELU);
    return add(g, x, layer_linear(b, h, width, true, format, i, "mlp.fc2"));
}

Value imagereward_vision_build(Build *b, const ImageRewardConfig *c, Value pixels) {
    Graph *g = b->g;
    if (!pixels) return NULL;
    const int64_t n = pixels->shape.dim[0], side = c->image / c->patch, width = c->vision_width;
    Value x = to_tokens(
        g, layer_conv(b, pixels, width, c->patch, c->patch, pad_same(0), true, "blip.visual_encoder.patch_embed.proj"));
    Value cls = weight(b, shape3(1, 1, width), "blip.visual_encoder.cls_token");
    x = concat(g, broadcast_to(g, cls, shape3(n, 1, width)), x, 1);
    x = add(g, x, weight(b, shape3(1, 1 + side * side, width), "blip.visual_encoder.pos_embed"));
    for (int i = 0; i < c->vision_layers; i++) x = vision_block(b, c, x, i);
    return layer_layer_norm(b, x, VISION_EPS, "blip.visual_encoder.norm");
}

/* ---- text ---- */

/* norm(x + dense(attention of x to `other`)) */
static Value attend(Build *b, const ImageRewardConfig *c, Value x, Value other, const char *name) {
    Graph *g = b->g;
    Value q = layer_linear(b, x, c->width, true, "%s.self.query", name);
    Value k = layer_linear(b, other, c->width, true, "%s.self.key", name);
    Value v = layer_linear(b, other, c->width, true, "%s.self.value", name);
    Value h = attention(g, q, k, v, c->width / c->head, false);
    h = add(g, x, layer_linear(b, h, c->width, true, "%s.output.dense", name));
    return layer_layer_norm(b, h, c->eps, "%s.output.LayerNorm", name);
}

static Value text_layer(Build *b, const ImageRewardConfig *c, Value x, Value picture, int i) {
    char name[96];
    const char *format = "blip.text_encoder.encoder.layer.%d.%s";
    snprintf(name, sizeof name, format, i, "attention");
    x = attend(b, c, x, x, name);
    snprintf(name, sizeof name, format, i, "crossattention");
    x = attend(b, c, x, picture, name);
    Value h = act(b->g, layer_linear(b, x, c->mlp, true, format, i, "intermediate.dense"), ACT_GELU);
    h = add(b->g, x, layer_linear(b, h, c->width, true, format, i, "output.dense"));
    return layer_layer_norm(b, h, c->eps, format, i, "output.LayerNorm");
}

static Value embeddings(Build *b, const ImageRewardConfig *c, Value ids) {
    Graph *g = b->g;
    const int64_t tokens = ids->shape.dim[1];
    Value words = weight(b, shape2(c->vocab, c->width), "blip.text_encoder.embeddings.word_embeddings.weight");
    Value places = weight(b, shape2(c->positions, c->width), "blip.text_encoder.embeddings.position_embeddings.weight");
    places = reshape(g, slice(g, places, 0, 0, tokens), shape3(1, tokens, c->width));
    return layer_layer_norm(b, add(g, embed(g, ids, words), places), c->eps, "blip.text_encoder.embeddings.LayerNorm");
}

/* Layers 0, 2, 4, 6, 7; between them the authors drop values while training. Their widths (1024, 128, 64, 16) are the
 * file's business. */
static Value head(Build *b, Value x) {
    static const int layers[] = {0, 2, 4, 6};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        Shape shape = shape2(1, 1);
        (void)weights_shape(b->weights, &shape, "mlp.layers.%d.weight", layers[i]);
        x = layer_linear(b, x, shape.dim[0], true, "mlp.layers.%d", layers[i]);
    }
    return layer_linear(b, x, 1, true, "mlp.layers.7");
}

Value imagereward_text_build(Build *b, const ImageRewardConfig *c, Value ids, Value picture, Value *states) {
    if (!ids || !picture) return NULL;
    Value x = embeddings(b, c, ids);
    for (int i = 0; i < c->layers; i++) x = text_layer(b, c, x, picture, i);
    if (states) *states = x;
    return head(b, slice(b->g, x, 1, 0, 1));
}

void imagereward_ignore(Weights *w) {
    weights_ignore(w, "blip.vision_proj.");
    weights_ignore(w, "blip.text_proj.");
    weights_ignore(w, "blip.text_encoder.embeddings.position_ids");
}
