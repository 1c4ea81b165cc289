/* UNet2DConditionModel: eps = unet(x_t, t, text), one forward pass per candidate; the only network that training
 * changes.
 *
 *     conv_in -> down blocks (each level halves the image, every result is kept) -> mid block
 *             -> up blocks (each resnet takes one kept result back) -> norm, act, conv_out */
#include "model/unet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/unet_blocks.h"

enum { MAX_SKIPS = 1 + UNET_MAX_BLOCKS * (UNET_MAX_LAYERS + 1), NAME_LENGTH = 128 };

typedef struct Unet {
    Build *b;
    const UnetConfig *c;
    Value temb; /* [N|1, 4 C0], activated: every resnet wants it so */
    Value text;
    Value skip[MAX_SKIPS]; /* stack of the down half's results */
    int skips;
    const char *const *wanted; /* [taps] names of blocks whose outputs are asked for; NULL: the network's own */
    int taps, taken;
    Value *tap;
} Unet;

void timestep_embedding(float t, int dim, bool flip_sin_to_cos, float freq_shift, float *out) {
    int half = dim / 2;
    for (int i = 0; i < half; i++) {
        /* single precision on purpose: at t = 999 the rounding of the frequency shows, and diffusers rounds here */
        float exponent = -(float)log(10000.0) * (float)i / ((float)half - freq_shift);
        float angle = t * (float)exp((double)exponent);
        out[flip_sin_to_cos ? half + i : i] = (float)sin((double)angle);
        out[flip_sin_to_cos ? i : half + i] = (float)cos((double)angle);
    }
    if (dim % 2) out[dim - 1] = 0;
}

static Value embedding_mlp(Unet *u, Value x, const char *name) {
    int64_t width = 4 * (int64_t)u->c->channels[0];
    Value h = act(u->b->g, layer_linear(u->b, x, width, true, "%s.linear_1", name), u->c->act);
    return layer_linear(u->b, h, width, true, "%s.linear_2", name);
}

static void push(Unet *u, Value x) { u->skip[u->skips++] = x; }

static Value resnet(Unet *u, Value x, int64_t out, float output_scale, const char *block, int i) {
    const UnetConfig *c = u->c;
    ResnetBlock r = {c->norm_groups, c->norm_eps, c->act, c->scale_shift, output_scale};
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, "%s.resnets.%d", block, i);
    return block_resnet(u->b, &r, x, u->temb, out, name);
}

/* `level` counts from the finest resolution, in both halves. */
static Value transformer(Unet *u, Value x, int level, bool only_cross_attention, const char *block, int i) {
    const UnetConfig *c = u->c;
    Transformer t = {c->transformer_layers[level], c->heads[level],      c->norm_groups,
                     c->use_linear_projection,     only_cross_attention, u->text};
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, "%s.attentions.%d", block, i);
    return block_transformer(u->b, &t, x, name);
}

static Value down_block(Unet *u, Value x, int level) {
    const UnetConfig *c = u->c;
    char block[NAME_LENGTH / 2];
    snprintf(block, sizeof block, "down_blocks.%d", level);
    for (int i = 0; i < c->layers[level]; i++) {
        x = resnet(u, x, c->channels[level], 1, block, i);
        if (c->down_cross[level]) x = transformer(u, x, level, c->only_cross_attention, block, i);
        push(u, x);
    }
    if (level == c->blocks - 1) return x;
    Pad pad = c->downsample_padding ? pad_same(1) : (Pad){0, 0, 1, 1};
    x = layer_conv(u->b, x, c->channels[level], 3, 2, pad, true, "%s.downsamplers.0.conv", block);
    push(u, x);
    return x;
}

static Value mid_block(Unet *u, Value x) {
    const UnetConfig *c = u->c;
    int level = c->blocks - 1;
    x = resnet(u, x, c->channels[level], c->mid_block_scale, "mid_block", 0);
    if (!c->mid_cross) return x;
    x = transformer(u, x, level, false, "mid_block", 0);
    return resnet(u, x, c->channels[level], c->mid_block_scale, "mid_block", 1);
}

static Value up_block(Unet *u, Value x, int index) {
    const UnetConfig *c = u->c;
    int level = c->blocks - 1 - index;
    char block[NAME_LENGTH / 2];
    snprintf(block, sizeof block, "up_blocks.%d", index);
    for (int i = 0; i < c->layers[level] + 1; i++) {
        x = concat(u->b->g, x, u->skip[--u->skips], 1);
        x = resnet(u, x, c->channels[level], 1, block, i);
        if (c->up_cross[index]) x = transformer(u, x, level, c->only_cross_attention, block, i);
    }
    if (level == 0) return x;
    x = upsample2x(u->b->g, x);
    return layer_conv(u->b, x, c->channels[level], 3, 1, pad_same(1), true, "%s.upsamplers.0.conv", block);
}

static bool sizes_fit(const Unet *u, Value latents, Value added) {
    const UnetConfig *c = u->c;
    int64_t step = (int64_t)1 << (c->blocks - 1), h = latents->shape.dim[2], w = latents->shape.dim[3];
    if (h % step || w % step)
        graph_mistake(u->b->g, "unet: latents of %lldx%lld do not halve %d times; use a multiple of %lld", (long long)h,
                      (long long)w, c->blocks - 1, (long long)step);
    else if (c->added_text_time != (added != NULL))
        graph_mistake(u->b->g, "unet: the model %s pooled text and time ids",
                      added ? "does not take" : "(addition_embed_type text_time) needs");
    else
        return true;
    return false;
}

/* Names a block's output and hands it to whoever asked for it; false: nobody wants what comes behind. */
static bool tap(Unet *u, Value x, const char *name) {
    set_name(u->b->g, x, "%s", name);
    for (int i = 0; i < u->taps; i++)
        if (strcmp(u->wanted[i], name) == 0) {
            u->tap[i] = x;
            u->taken++;
        }
    return !u->wanted || u->taken < u->taps;
}

/* Up to the last block that is wanted; NULL when that comes before the end. */
static Value run_blocks(Unet *u, Value x) {
    char name[NAME_LENGTH / 2];
    const int blocks = u->c->blocks;
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "down_blocks.%d", i);
        x = down_block(u, x, i);
        if (!tap(u, x, name)) return NULL;
    }
    x = mid_block(u, x);
    if (!tap(u, x, "mid_block")) return NULL;
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "up_blocks.%d", i);
        x = up_block(u, x, i);
        if (!tap(u, x, name)) return NULL;
    }
    return x;
}

static Value run(Unet *u, Value latents, Value time, Value added) {
    const UnetConfig *c = u->c;
    Build *b = u->b;
    Graph *g = b->g;
    if (!latents || !sizes_fit(u, latents, added)) return NULL;
    Value temb = embedding_mlp(u, time, "time_embedding");
    if (added) temb = add(g, temb, embedding_mlp(u, added, "add_embedding"));
    u->temb = act(g, temb, c->act);
    Value x = layer_conv(b, latents, c->channels[0], 3, 1, pad_same(1), true, "conv_in");
    push(u, x);
    return run_blocks(u, x);
}

Value unet_build(Build *b, const UnetConfig *c, Value latents, Value time, Value text, Value added) {
    Unet u = {.b = b, .c = c, .text = text};
    Value x = run(&u, latents, time, added);
    x = act(b->g, layer_group_norm(b, x, c->norm_groups, c->norm_eps, "conv_norm_out"), c->act);
    return layer_conv(b, x, c->out_channels, 3, 1, pad_same(1), true, "conv_out");
}

void unet_hidden(Build *b, const UnetConfig *c, Value latents, Value time, Value text, Value added,
                 const char *const *names, int n, Value *out) {
    Unet u = {.b = b, .c = c, .text = text, .wanted = names, .taps = n, .tap = out};
    memset(out, 0, (size_t)n * sizeof *out);
    run(&u, latents, time, added);
    for (int i = 0; i < n; i++)
        if (!out[i])
            graph_mistake(b->g, "unet: there is no block '%s'; blocks: down_blocks.0..%d, mid_block, up_blocks.0..%d",
                          names[i], c->blocks - 1, c->blocks - 1);
}
