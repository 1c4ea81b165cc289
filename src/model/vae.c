/* AutoencoderKL: image = decode(latents / scaling), the last step before the reward; encode is its mirror.
 *
 *     decode: post_quant_conv, conv_in, mid block (resnet, attention, resnet), up blocks, norm, SiLU, conv_out
 *     encode: conv_in, down blocks, mid block, norm, SiLU, conv_out, quant_conv */
#include "model/vae.h"

#include <stdio.h>

enum { NAME_LENGTH = 96 };
static const float NORM_EPS = 1e-6f; /* fixed in diffusers, not in config.json */

static Value resnet(Build *b, const VaeConfig *c, Value x, int64_t out, const char *block, int i) {
    ResnetBlock r = {c->norm_groups, NORM_EPS, c->act, false, 1};
    char name[NAME_LENGTH + 32];
    snprintf(name, sizeof name, "%s.resnets.%d", block, i);
    return block_resnet(b, &r, x, NULL, out, name);
}

/* One head over all pixels. Files from before diffusers 0.15 call the layers query, key, value and proj_attn. */
static Value pixel_attention(Build *b, const VaeConfig *c, Value x, const char *name) {
    static const char *const modern[] = {"to_q", "to_k", "to_v", "to_out.0"};
    static const char *const legacy[] = {"query", "key", "value", "proj_attn"};
    if (!x) return NULL;
    const char *const *layer = weights_has(b->weights, "%s.query.weight", name) ? legacy : modern;
    int64_t width = x->shape.dim[1];
    graph_segment(b->g, ++b->next_segment);
    Value h = to_tokens(b->g, layer_group_norm(b, x, c->norm_groups, NORM_EPS, "%s.group_norm", name));
    Value q = layer_linear(b, h, width, true, "%s.%s", name, layer[0]);
    Value k = layer_linear(b, h, width, true, "%s.%s", name, layer[1]);
    Value v = layer_linear(b, h, width, true, "%s.%s", name, layer[2]);
    h = layer_linear(b, attention(b->g, q, k, v, 1, false), width, true, "%s.%s", name, layer[3]);
    Value y = add(b->g, x, to_image(b->g, h, x->shape.dim[2], x->shape.dim[3]));
    graph_segment(b->g, 0);
    return y;
}

static Value mid_block(Build *b, const VaeConfig *c, Value x, const char *half) {
    char block[NAME_LENGTH], attention_name[NAME_LENGTH + 32];
    snprintf(block, sizeof block, "%s.mid_block", half);
    snprintf(attention_name, sizeof attention_name, "%s.attentions.0", block);
    int64_t width = c->channels[c->blocks - 1];
    x = resnet(b, c, x, width, block, 0);
    if (c->mid_attention) x = pixel_attention(b, c, x, attention_name);
    return resnet(b, c, x, width, block, 1);
}

static Value last_layers(Build *b, const VaeConfig *c, Value x, int64_t out, const char *half) {
    x = silu(b->g, layer_group_norm(b, x, c->norm_groups, NORM_EPS, "%s.conv_norm_out", half));
    return layer_conv(b, x, out, 3, 1, pad_same(1), true, "%s.conv_out", half);
}

Value vae_decode(Build *b, const VaeConfig *c, Value latents) {
    Value x = latents;
    if (c->use_post_quant_conv) x = layer_conv(b, x, c->latent_channels, 1, 1, pad_same(0), true, "post_quant_conv");
    x = layer_conv(b, x, c->channels[c->blocks - 1], 3, 1, pad_same(1), true, "decoder.conv_in");
    x = mid_block(b, c, x, "decoder");
    for (int i = 0; i < c->blocks; i++) {
        int64_t width = c->channels[c->blocks - 1 - i];
        char block[NAME_LENGTH];
        snprintf(block, sizeof block, "decoder.up_blocks.%d", i);
        for (int j = 0; j < c->layers + 1; j++) x = resnet(b, c, x, width, block, j);
        if (i == c->blocks - 1) break;
        x = layer_conv(b, upsample2x(b->g, x), width, 3, 1, pad_same(1), true, "%s.upsamplers.0.conv", block);
    }
    return last_layers(b, c, x, c->out_channels, "decoder");
}

Value vae_picture(Build *b, const VaeConfig *c, Value latents) {
    Graph *g = b->g;
    Value image = vae_decode(b, c, affine(g, latents, 1 / c->scaling_factor, c->shift_factor));
    Value low = act(g, affine(g, image, 1, 1), ACT_RELU), high = act(g, affine(g, image, 1, -1), ACT_RELU);
    return affine(g, add(g, low, affine(g, high, -1, 0)), 1, -1);
}

Value vae_encode(Build *b, const VaeConfig *c, Value image) {
    int factor = vae_factor(c);
    if (!image) return NULL;
    if (image->shape.dim[2] % factor || image->shape.dim[3] % factor) {
        graph_mistake(b->g, "vae: image sides must be multiples of %d pixels", factor);
        return NULL;
    }
    Value x = layer_conv(b, image, c->channels[0], 3, 1, pad_same(1), true, "encoder.conv_in");
    for (int i = 0; i < c->blocks; i++) {
        char block[NAME_LENGTH];
        snprintf(block, sizeof block, "encoder.down_blocks.%d", i);
        for (int j = 0; j < c->layers; j++) x = resnet(b, c, x, c->channels[i], block, j);
        if (i == c->blocks - 1) break;
        x = layer_conv(b, x, c->channels[i], 3, 2, (Pad){0, 0, 1, 1}, true, "%s.downsamplers.0.conv", block);
    }
    x = last_layers(b, c, mid_block(b, c, x, "encoder"), 2 * (int64_t)c->latent_channels, "encoder");
    if (!c->use_quant_conv) return x;
    return layer_conv(b, x, 2 * (int64_t)c->latent_channels, 1, 1, pad_same(0), true, "quant_conv");
}

void vae_ignore_encoder(Weights *w) {
    weights_ignore(w, "encoder.");
    weights_ignore(w, "quant_conv.");
}

void vae_ignore_decoder(Weights *w) {
    weights_ignore(w, "decoder.");
    weights_ignore(w, "post_quant_conv.");
}
