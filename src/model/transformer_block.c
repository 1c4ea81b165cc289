/* Transformer2DModel of the UNet: pixels as tokens attend to each other (attn1), then to the text (attn2), then a gated
 * MLP.
 *
 * Text of batch 1 stays batch 1 through to_k and to_v: all candidates of a prompt share one projection. */
#include "model/unet_blocks.h"

#include <stdio.h>

static const float TRANSFORMER_NORM_EPS = 1e-6f, LAYER_NORM_EPS = 1e-5f;

/* softmax(q k^T / sqrt d) v, q of `x` [N,T,C], k and v of `context` [N|1,Tc,D] */
static Value attend(Build *b, Value x, Value context, int heads, const char *block, const char *name) {
    if (!x || !context) return NULL;
    int64_t width = x->shape.dim[2];
    Value q = layer_linear(b, x, width, false, "%s.%s.to_q", block, name);
    Value k = layer_linear(b, context, width, false, "%s.%s.to_k", block, name);
    Value v = layer_linear(b, context, width, false, "%s.%s.to_v", block, name);
    Value y = attention(b->g, q, k, v, heads, false);
    return layer_linear(b, y, width, true, "%s.%s.to_out.0", block, name);
}

static Value feed_forward(Build *b, Value x, const char *block) {
    if (!x) return NULL;
    int64_t width = x->shape.dim[2];
    Value h = geglu(b->g, layer_linear(b, x, 8 * width, true, "%s.ff.net.0.proj", block));
    return layer_linear(b, h, width, true, "%s.ff.net.2", block);
}

static Value transformer_block(Build *b, Value x, const Transformer *t, const char *name) {
    Graph *g = b->g;
    graph_segment(g, ++b->next_segment);
    Value h = layer_layer_norm(b, x, LAYER_NORM_EPS, "%s.norm1", name);
    x = add(g, x, attend(b, h, t->only_cross_attention ? t->text : h, t->heads, name, "attn1"));
    h = layer_layer_norm(b, x, LAYER_NORM_EPS, "%s.norm2", name);
    x = add(g, x, attend(b, h, t->text, t->heads, name, "attn2"));
    h = layer_layer_norm(b, x, LAYER_NORM_EPS, "%s.norm3", name);
    x = add(g, x, feed_forward(b, h, name));
    graph_segment(g, 0);
    return x;
}

Value block_transformer(Build *b, const Transformer *t, Value x, const char *name) {
    Graph *g = b->g;
    if (!x) return NULL;
    int64_t width = x->shape.dim[1], height = x->shape.dim[2], columns = x->shape.dim[3];
    Value h = layer_group_norm(b, x, t->groups, TRANSFORMER_NORM_EPS, "%s.norm", name);
    if (t->linear_projection)
        h = layer_linear(b, to_tokens(g, h), width, true, "%s.proj_in", name);
    else
        h = to_tokens(g, layer_conv(b, h, width, 1, 1, pad_same(0), true, "%s.proj_in", name));
    for (int i = 0; i < t->layers; i++) {
        char block[192];
        snprintf(block, sizeof block, "%s.transformer_blocks.%d", name, i);
        h = transformer_block(b, h, t, block);
    }
    if (t->linear_projection)
        h = to_image(g, layer_linear(b, h, width, true, "%s.proj_out", name), height, columns);
    else
        h = layer_conv(b, to_image(g, h, height, columns), width, 1, 1, pad_same(0), true, "%s.proj_out", name);
    return add(g, x, h);
}
