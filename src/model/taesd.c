/* AutoencoderTiny's decoder, a chain of 3x3 convolutions without a norm. In place of the VAE's before a reward that
 * tolerates it.
 *
 *     stage: blocks, then (but for the last stage) upsample x2;  conv
 *     block: y = relu(x + conv(act(conv(act(conv(x))))))
 *
 * In both layouts layers are numbered through, activations and upsampling included. */
#include "model/taesd.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "model/component_config.h"

enum { RGB = 3, NAME_LENGTH = 96, SOME_SIDE = 8, MAX_CHANNELS = 1 << 14, MAX_BLOCKS = 64 };

/* ---- network ---- */
static Value conv(Build *b, Value x, int64_t out, bool bias, const char *name) {
    return layer_conv(b, x, out, 3, 1, pad_same(1), bias, "%s", name);
}

static void layer_name(const TaesdConfig *c, int number, const char *part, char name[NAME_LENGTH]) {
    snprintf(name, NAME_LENGTH, "%s%d%s", c->layers, c->first + number, part);
}

static Value block(Build *b, const TaesdConfig *c, Value x, int number) {
    static const char *const part[] = {".conv.0", ".conv.2", ".conv.4"};
    char name[NAME_LENGTH];
    Value h = x;
    for (int i = 0; i < 3; i++) {
        if (i) h = act(b->g, h, c->act);
        layer_name(c, number, part[i], name);
        h = conv(b, h, c->width, true, name);
    }
    return act(b->g, add(b->g, x, h), ACT_RELU);
}

Value taesd_decode(Build *b, const TaesdConfig *c, Value bounded) {
    char name[NAME_LENGTH];
    int number = 0;
    layer_name(c, number, "", name);
    Value x = act(b->g, conv(b, bounded, c->width, true, name), c->act);
    number += 2;
    for (int s = 0; s < c->stages; s++) {
        const bool last = s == c->stages - 1;
        for (int i = 0; i < c->blocks[s]; i++) x = block(b, c, x, number++);
        if (!last) {
            x = upsample2x(b->g, x);
            number++;
        }
        layer_name(c, number++, "", name);
        x = conv(b, x, last ? RGB : c->width, last, name);
    }
    return affine(b->g, x, 2, -1);
}

void taesd_bound(const TaesdConfig *c, const float *latents, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) out[i] = 3 * tanhf(latents[i] / c->scaling_factor / 3);
}

int taesd_factor(const TaesdConfig *c) { return 1 << (c->stages - 1); }

/* ---- config.json ---- */
static const ConfigRule RULES[] = {
    {"in_channels", NULL},
    {"out_channels", "3"},
    {"latent_channels", NULL},
    {"encoder_block_out_channels", NULL},
    {"decoder_block_out_channels", NULL},
    {"block_out_channels", NULL},
    {"num_encoder_blocks", NULL},
    {"num_decoder_blocks", NULL},
    {"act_fn", NULL},
    {"upsample_fn", "\"nearest\""},
    {"upsampling_scaling_factor", "2"},
    {"latent_magnitude", NULL}, /* of latents kept as bytes, not of decoding */
    {"latent_shift", NULL},
    {"scaling_factor", NULL},
    {"shift_factor", "0|0.0"},
    {"force_upcast", NULL},
};

/* Stages of different widths have no layer between them that could change one. */
static int read_stages(const JsonReader *r, TaesdConfig *c, Error *err) {
    static const int usual[] = {3, 3, 3, 1};
    int64_t blocks[TAESD_MAX_STAGES];
    int width[TAESD_MAX_STAGES];
    c->stages = (int)json_get_ints(r, "num_decoder_blocks", blocks, TAESD_MAX_STAGES);
    TRY(json_finish(r));
    const bool given = c->stages > 0;
    if (!given) c->stages = (int)(sizeof usual / sizeof *usual);
    TRY(component_ints(r, "num_decoder_blocks", 0, 0, MAX_BLOCKS, c->blocks, c->stages));
    for (int i = 0; !given && i < c->stages; i++) c->blocks[i] = usual[i];
    TRY(component_ints(r, "decoder_block_out_channels", 64, 1, MAX_CHANNELS, width, c->stages));
    c->width = width[0];
    for (int i = 1; i < c->stages; i++)
        if (width[i] != c->width)
            return fail(err, DRPO_E_INPUT, "%s: decoder_block_out_channels must all be equal, not %d and %d", r->where,
                        c->width, width[i]);
    return 0;
}

static int read_all(const JsonReader *r, void *config) {
    TaesdConfig *c = config;
    TRY(component_class(r, "AutoencoderTiny"));
    TRY(component_check(r, RULES, sizeof RULES / sizeof *RULES));
    TRY(component_int(r, "latent_channels", 4, 1, MAX_CHANNELS, &c->latent_channels));
    TRY(read_stages(r, c, r->err));
    c->scaling_factor = (float)json_get_number(r, "scaling_factor", 1);
    TRY(json_finish(r));
    if (!(c->scaling_factor > 0)) return fail(r->err, DRPO_E_INPUT, "%s: scaling_factor must be positive", r->where);
    return component_act(r, "act_fn", ACT_RELU, &c->act);
}

int taesd_config_read(const char *path, TaesdConfig *c, Error *err) {
    *c = (TaesdConfig){.layers = "decoder.layers."};
    return component_read(path, read_all, c, err);
}

/* ---- one file without a config.json: the layers' names and shapes say it ---- */
static bool is_block(const TaesdConfig *c, const Weights *w, int number) {
    return weights_has(w, "%s%d.conv.0.weight", c->layers, c->first + number);
}

static bool is_conv(const TaesdConfig *c, const Weights *w, int number) {
    return weights_has(w, "%s%d.weight", c->layers, c->first + number);
}

static int read_names(const Weights *w, TaesdConfig *c, Error *err) {
    const bool own = weights_has(w, "1.weight");
    Shape first;
    *c = (TaesdConfig){.layers = own ? "" : "decoder.layers.", .first = own, .scaling_factor = 1, .act = ACT_RELU};
    if (!weights_shape(w, &first, "%s%d.weight", c->layers, c->first) || first.rank != 4)
        return fail(err, DRPO_E_INPUT,
                    "%s: neither '1.weight' nor 'decoder.layers.0.weight' is in it; a TAESD decoder is a diffusers "
                    "folder of AutoencoderTiny or taesd_decoder.safetensors",
                    weights_path(w));
    c->width = (int)first.dim[0];
    c->latent_channels = (int)first.dim[1];
    for (int number = 2; c->stages < TAESD_MAX_STAGES; number++) {
        int *blocks = &c->blocks[c->stages];
        while (is_block(c, w, number)) number++, ++*blocks;
        const bool last = is_conv(c, w, number);
        c->stages++;
        if (last) return 0;
        if (!is_conv(c, w, ++number)) break;
    }
    return fail(err, DRPO_E_INPUT, "%s: its layers do not end with a convolution, so it is no TAESD decoder",
                weights_path(w));
}

/* ---- opening ---- */

/* Builds the network once to nowhere, so that every tensor is accounted for before any work is done. */
static int check(const Taesd *t, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "%s: out of memory", weights_path(t->weights));
    Build b = {.g = g, .weights = t->weights};
    const int side = SOME_SIDE, channels = t->config.latent_channels;
    taesd_decode(&b, &t->config, input(g, "latents", DT_F32, shape4(1, channels, side, side)));
    weights_ignore(t->weights, "encoder.");
    int code = weights_finish(t->weights, err);
    if (code >= 0) code = graph_check(g, err);
    arena_free(arena);
    return code;
}

static int open_all(const char *path, Taesd *t, Error *err) {
    char config[PATH_MAX];
    if (!dir_exists(path)) {
        if (!file_exists(path)) return fail(err, DRPO_E_INPUT, "%s: no such file or folder", path);
        TRY(weights_open_file(path, &t->weights, err));
        TRY(read_names(t->weights, &t->config, err));
        return check(t, err);
    }
    if (snprintf(config, sizeof config, "%s/config.json", path) >= (int)sizeof config)
        return fail(err, DRPO_E_INPUT, "%s: the path is too long", path);
    TRY(taesd_config_read(config, &t->config, err));
    TRY(weights_open(path, "diffusion_pytorch_model", &t->weights, err));
    return check(t, err);
}

int taesd_open(const char *path, Taesd **out, Error *err) {
    Taesd *t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = open_all(path, t, err);
    if (code < 0) {
        taesd_close(t);
        return code;
    }
    *out = t;
    return 0;
}

void taesd_close(Taesd *t) {
    if (!t) return;
    weights_free(t->weights);
    free(t);
}
