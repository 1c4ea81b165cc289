/* Vision transformers as feature maps: latents -> VAE decoder -> picture -> DINOv2 or ViT-MAE -> patches, their mean
 * and deviation, class token of a block.
 *
 *     pixel = clamp(decode(x0 / scaling), -1, 1);   y = (resize((pixel + 1) / 2) - mean) / std;   hidden = vit(y)
 *
 * Resizing smooths (antialias) unless resize=plain, which is what the released trainers did. ViT-MAE sees all patches;
 * mask=true is the released behaviour: a random quarter of them, another one for each look. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/resize.h"
#include "model/vit.h"
#include "step/feature/feature_map.h"

enum { MASKED_PATCHES = 1 << 12 }; /* most that masking chooses from */

typedef enum Statistic { PATCHES, MEAN, DEVIATION, CLASS, ZERO } Statistic;

typedef struct Key {
    int layer, cell; /* cell 0: all patches */
    Statistic what;
} Key;

typedef struct Vit {
    VitConfig config;
    VitPositions positions;
    Param rows, columns; /* [size,H], [size * 3, W * 3]: the resize along either axis */
    Param scale, shift;  /* [1,1,size * 3]: 1/std, -mean/std */
    float *values;       /* of these four */
    Key key[MAX_FEATURE_KEYS];
    int last, kept; /* deepest block; patches that masking keeps, 0: all */
} Vit;

/* ---- keys: layer<l>_patch[_mean|_std|_patch<q>_mean|_patch<q>_std], layer<l>_cls[_mean|_std] ---- */
static bool parse_key(const char *text, Key *key) {
    static const struct {
        const char *name;
        Statistic what;
    } plain[] = {{"patch", PATCHES}, {"patch_mean", MEAN}, {"patch_std", DEVIATION},
                 {"cls", CLASS},     {"cls_mean", CLASS},  {"cls_std", ZERO}};
    int end = 0, tail = 0;
    *key = (Key){0};
    if (sscanf(text, "layer%d_%n", &key->layer, &end) != 1 || !end) return false;
    text += end;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(text, plain[i].name) == 0) {
            key->what = plain[i].what;
            return true;
        }
    if (sscanf(text, "patch_patch%d_%n", &key->cell, &tail) != 1 || !tail || key->cell < 2) return false;
    key->what = strcmp(text + tail, "std") == 0 ? DEVIATION : MEAN;
    return key->what == DEVIATION || strcmp(text + tail, "mean") == 0;
}

static bool is_square(int n) {
    const int root = (int)lround(sqrt(n));
    return root * root == n;
}

static int parse_keys(const FeatureMap *m, Vit *v, Error *err) {
    for (int i = 0; i < m->keys; i++) {
        Key *k = &v->key[i];
        const int grid = vit_grid(&v->config);
        if (!parse_key(m->key[i], k) || k->layer < 0 || k->layer > v->config.layers)
            return fail(
                err, DRPO_E_USAGE,
                "--features %s: key '%s' is unknown; layer0..layer%d, each with _patch, _patch_mean, _patch_std, "
                "_cls, _patch_patch<q>_mean or _patch_patch<q>_std",
                m->spec, m->key[i], v->config.layers);
        if (k->cell && (v->kept || grid % k->cell))
            return fail(err, DRPO_E_USAGE, "--features %s: key '%s': cells of %d do not divide the %dx%d patches%s",
                        m->spec, m->key[i], k->cell, grid, grid, v->kept ? ", and masking leaves no grid" : "");
        if (k->what == DEVIATION && !is_square(v->kept))
            return fail(
                err, DRPO_E_INPUT,
                "--features %s: key '%s': mask=true keeps %d of %d patches, which form no square; leave this key "
                "or mask=true out",
                m->spec, m->key[i], v->kept, grid * grid);
        if (k->layer > v->last) v->last = k->layer;
    }
    return 0;
}

/* ---- preprocessing ---- */
static int fill_axis(ResizeFilter filter, int from, int to, int repeat, float *matrix, Error *err) {
    ResizeTaps t;
    TRY(resize_taps_new(filter, from, to, &t, err));
    const size_t stride = (size_t)from * (size_t)repeat;
    for (int i = 0; i < to; i++)
        for (int k = 0; k < t.count[i]; k++)
            for (int c = 0; c < repeat; c++)
                matrix[((size_t)i * (size_t)repeat + (size_t)c) * stride + (size_t)(t.first[i] + k) * (size_t)repeat +
                       (size_t)c] = (float)t.weight[i * t.most + k];
    resize_taps_free(&t);
    return 0;
}

static Param constant(const char *name, Shape shape, const float *values) {
    return (Param){.name = name, .dtype = DT_F32, .shape = shape, .data = values};
}

/* A row of the picture in memory is W pixels of three colours, so that columns are resized for all colours at once. */
static int fill_constants(const FeatureMap *m, Vit *v, Error *err) {
    const int size = v->config.size, height = m->height * m->pipeline->factor, width = m->width * m->pipeline->factor;
    const char *how = feature_option(m, "resize", "antialias");
    const bool plain = strcmp(how, "plain") == 0;
    if (!plain && strcmp(how, "antialias") != 0)
        return fail(err, DRPO_E_USAGE, "--features %s: resize=%s must be antialias or plain", m->spec, how);
    const size_t rows = (size_t)size * (size_t)height, line = (size_t)size * 3, columns = line * (size_t)width * 3;
    v->values = calloc(rows + columns + 2 * line, sizeof *v->values);
    if (!v->values) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    float *at = v->values;
    TRY(fill_axis(plain ? RESIZE_PLAIN : RESIZE_PIL, height, size, 1, at, err));
    v->rows = constant("resize rows", shape2(size, height), at);
    at += rows;
    TRY(fill_axis(plain ? RESIZE_PLAIN : RESIZE_PIL, width, size, 3, at, err));
    v->columns = constant("resize columns", shape2((int64_t)line, 3 * width), at);
    at += columns;
    for (size_t i = 0; i < line; i++) {
        at[i] = 0.5f / v->config.std[i % 3];
        at[line + i] = (0.5f - v->config.mean[i % 3]) / v->config.std[i % 3];
    }
    v->scale = constant("pixel scale", shape3(1, 1, (int64_t)line), at);
    v->shift = constant("pixel shift", shape3(1, 1, (int64_t)line), at + line);
    return 0;
}

/* Older repositories hold what torch.save wrote. */
static int open_weights(FeatureMap *m, Error *err) {
    const char *safe = path_join(m->arena, m->path, "model.safetensors"),
               *torch = path_join(m->arena, m->path, "pytorch_model.bin");
    if (!safe || !torch) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    if (!file_exists(safe) && file_exists(torch)) return weights_open_file(torch, &m->weights, err);
    return weights_open(m->path, "model", &m->weights, err);
}

static int open_vit(FeatureMap *m, VitKind kind, Error *err) {
    Vit *v = arena_alloc(m->arena, sizeof *v);
    if (!v) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    *v = (Vit){0};
    m->state = v;
    if (!dir_exists(m->path))
        return fail(err, DRPO_E_INPUT, "--features %s: no folder '%s' (it should hold config.json and weights)",
                    m->spec, m->path);
    TRY(vit_config_read(m->path, &v->config, err));
    if (v->config.kind != kind)
        return fail(err, DRPO_E_INPUT, "--features %s: %s/config.json describes another model; use %s", m->spec,
                    m->path, kind == VIT_MAE ? "dinov2:" : "vitmae:");
    TRY(open_weights(m, err));
    bool masked = false;
    if (kind == VIT_MAE) TRY(feature_flag(m, "mask", &masked, err));
    const int patches = vit_grid(&v->config) * vit_grid(&v->config);
    if (masked && patches > MASKED_PATCHES)
        return fail(err, DRPO_E_INPUT,
                    "--features %s: mask=true chooses from at most %d patches, not from %d; use mask=false", m->spec,
                    MASKED_PATCHES, patches);
    if (masked) v->kept = patches / 4 > 1 ? patches / 4 : 1;
    TRY(parse_keys(m, v, err));
    TRY(fill_constants(m, v, err));
    TRY(vit_positions_new(&v->config, m->weights, &v->positions, err));
    return feature_check(m, err);
}

static int open_dinov2(FeatureMap *m, Error *err) { return open_vit(m, VIT_DINOV2, err); }
static int open_vitmae(FeatureMap *m, Error *err) { return open_vit(m, VIT_MAE, err); }

static void close_vit(FeatureMap *m) {
    Vit *v = m->state;
    if (!v) return;
    vit_positions_free(&v->positions);
    free(v->values);
}

/* ---- graph ---- */

/* [N,3,H,W] in [-1,1] -> [N,3,size,size] as the network wants it. */
static Value prepare(Graph *g, Vit *v, Value image) {
    if (!image) return NULL;
    const int64_t n = image->shape.dim[0], h = image->shape.dim[2], w = image->shape.dim[3], size = v->config.size;
    Value x = reshape(g, to_tokens(g, image), shape3(n, h, 3 * w));
    x = linear(g, x, param(g, &v->columns), NULL);
    Value rows = reshape(g, param(g, &v->rows), shape3(1, size, h));
    x = matmul(g, n > 1 ? broadcast_to(g, rows, shape3(n, size, h)) : rows, x, false, false);
    x = add(g, mul(g, x, param(g, &v->scale)), param(g, &v->shift));
    return to_image(g, reshape(g, x, shape3(n, size * size, 3)), size, size);
}

/* A random order of the patches, its beginning kept: one-hot rows [kept, patches]. */
static void draw_mask(const void *map, RngKey key, int role, float *row) {
    const Vit *v = ((const FeatureMap *)map)->state;
    const int patches = vit_grid(&v->config) * vit_grid(&v->config);
    key.candidate += (uint32_t)role * MAX_CANDIDATES;
    memset(row, 0, sizeof *row * (size_t)v->kept * (size_t)patches);
    bool taken[MASKED_PATCHES] = {false};
    for (int i = 0, draw = 0; i < v->kept; draw++) {
        const size_t at = rng_below(key, (uint64_t)draw, (size_t)patches);
        if (taken[at]) continue;
        taken[at] = true;
        row[(size_t)i++ * (size_t)patches + at] = 1;
    }
}

/* tokens [N,1+T,C] -> what the key names of them. */
static Value statistic(Graph *g, const Vit *v, Value tokens, const Key *key) {
    if (!tokens) return NULL;
    const int64_t n = tokens->shape.dim[0], count = tokens->shape.dim[1] - 1, width = tokens->shape.dim[2];
    const int grid = vit_grid(&v->config);
    if (key->what == CLASS || key->what == ZERO)
        return affine(g, slice(g, tokens, 1, 0, 1), key->what == CLASS ? 1 : 0, 0);
    Value x = slice(g, tokens, 1, 1, count);
    if (key->what == PATCHES) return x;
    if (key->cell) {
        x = to_image(g, x, grid, grid);
        x = key->what == MEAN ? avg_pool(g, x, key->cell) : pool_std(g, x, key->cell, 1e-8f, true);
        return to_tokens(g, x);
    }
    if (key->what == MEAN) return affine(g, sum_to(g, x, shape3(n, 1, width)), 1.0f / (float)count, 0);
    int root = v->kept ? 1 : grid; /* kept patches are laid out as a square */
    while (root * root < count) root++;
    return to_tokens(g, pool_std(g, to_image(g, x, root, root), root, 1e-6f, false));
}

static int build(const FeatureMap *m, Build *b, FeatureInputs *in, Value *out, Error *err) {
    Vit *v = m->state;
    Graph *g = b->g;
    Pipeline *p = m->pipeline;
    Value keep = NULL, hidden[128 + 1];
    const int64_t patches = (int64_t)vit_grid(&v->config) * vit_grid(&v->config);
    Build decoder = *b;
    decoder.weights = p->vae_weights;
    Value image = vae_picture(&decoder, &p->vae, in->latents);
    b->next_segment = decoder.next_segment;
    if (v->kept) {
        if (in->draws == MAX_FEATURE_DRAWS) return fail(err, DRPO_E_USAGE, "--features: too many maps that draw noise");
        keep = input(g, "mask", DT_F32, shape3(in->latents->shape.dim[0], v->kept, patches));
        in->draw[in->draws++] = (FeatureDraw){keep, draw_mask, m};
    }
    TRY(graph_check(g, err));
    vit_build(b, &v->config, &v->positions, prepare(g, v, image), keep, v->last, hidden);
    TRY(graph_check(g, err));
    for (int i = 0; i < m->keys; i++) out[i] = statistic(g, v, hidden[v->key[i].layer], &v->key[i]);
    return 0;
}

static bool is_masked(const FeatureMap *m) { return ((const Vit *)m->state)->kept > 0; }

const FeatureKind dinov2_map = {
    .name = "dinov2",
    .alias = "dino",
    .argument = "FOLDER",
    .keys = "layer3_patch_mean,layer3_patch_std,layer3_cls,layer6_patch_mean,layer6_patch_std,layer6_cls,"
            "layer9_patch_mean,layer9_patch_std,layer9_cls,layer12_patch_mean,layer12_patch_std,layer12_cls",
    .options = "resize=antialias|plain",
    .aside = true,
    .open = open_dinov2,
    .build = build,
    .close = close_vit,
};

const FeatureKind vitmae_map = {
    .name = "vitmae",
    .alias = "mae",
    .argument = "FOLDER",
    .keys = "layer12_patch_mean,layer12_patch_std,layer12_cls",
    .options = "resize=antialias|plain mask=true|false",
    .aside = true,
    .open = open_vitmae,
    .build = build,
    .close = close_vit,
    .draws = is_masked,
    .redraws = is_masked,
};
