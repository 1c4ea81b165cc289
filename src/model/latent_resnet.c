/* Latent feature network: clean latents -> the feature tokens in which the drift compares candidates.
 *
 *     x = relu(gn1(conv1 z));  block: relu(x + gn2(conv2 relu(gn1(conv1 x))));  x = gn(x) after each stage
 *
 * A key names a map and how to pool it: "layer3" (every position), "layer3_mean", "layer3_std_2" (cells of 2x2),
 * "latent_patch_8" (every number of a cell of 8x8 as one token).
 * Nothing deeper than the deepest key is built. */
#include "model/latent_resnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 64, NAME_LENGTH = 96, LATENT = -2, STEM = -1, STAGE_END = 1 << 20 };

typedef enum Pooling {
    POOL_NONE,
    POOL_MEAN,
    POOL_DEVIATION,
    POOL_PATCH,
    POOL_SQUARES,
    POOL_NORM,
    POOL_NORM_EPS
} Pooling;

/* Where in the network a key's map lies: stage LATENT, STEM or 0.., block b or STAGE_END (after the stage's norm). */
typedef struct Key {
    int stage, block;
    Pooling pooling;
    int cell; /* 0: the whole map */
} Key;

typedef struct Resnet {
    Build *b;
    const LatentResnetConfig *c;
    Key key[MAX_KEYS];
    int n_keys;
    Value *features;
} Resnet;

/* "layer3_blk1" -> stage 2, block 1 */
static bool parse_map(const char *name, const LatentResnetConfig *c, Key *key) {
    int layer = 0, block = 0, end = 0;
    *key = (Key){.stage = LATENT, .block = STAGE_END};
    if (strcmp(name, "latent") == 0) return true;
    key->stage = STEM;
    if (strcmp(name, "conv1") == 0) return true;
    if (sscanf(name, "layer%d%n", &layer, &end) != 1 || layer < 1 || layer > c->stages) return false;
    key->stage = layer - 1;
    if (name[end] == 0) return true;
    const char *rest = name + end;
    if (sscanf(rest, "_blk%d%n", &block, &end) != 1 || rest[end] || block < 0 || block >= c->blocks[key->stage])
        return false;
    key->block = block;
    return true;
}

/* Keys whose names are whole: mean of squares of the latents, and its root. */
static bool parse_norm(const char *text, Key *key) {
    static const struct {
        const char *name;
        Pooling pooling;
    } norms[] = {{"input_x2_mean", POOL_SQUARES}, {"latent_norm", POOL_NORM}, {"norm_x", POOL_NORM_EPS}};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        if (strcmp(text, norms[i].name) == 0) {
            *key = (Key){LATENT, STAGE_END, norms[i].pooling, 0};
            return true;
        }
    return false;
}

static bool parse_key(const char *text, const LatentResnetConfig *c, Key *key) {
    char map[NAME_LENGTH];
    if (parse_norm(text, key)) return true;
    if (strlen(text) >= sizeof map) return false;
    strcpy(map, text);
    static const struct {
        const char *suffix;
        Pooling pooling;
    } poolings[] = {{"_mean", POOL_MEAN}, {"_std", POOL_DEVIATION}, {"_patch", POOL_PATCH}};
    int cell = 0;
    key->pooling = POOL_NONE;
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings && key->pooling == POOL_NONE; i++) {
        char *suffix = strstr(map, poolings[i].suffix);
        if (!suffix) continue;
        const char *size = suffix + strlen(poolings[i].suffix);
        *suffix = 0;
        key->pooling = poolings[i].pooling;
        int end = 0;
        if (*size && (sscanf(size, "_%d%n", &cell, &end) != 1 || size[end] || cell < 2)) return false;
    }
    Pooling pooling = key->pooling;
    if (!parse_map(map, c, key) || (pooling == POOL_PATCH && cell == 0)) return false;
    key->pooling = pooling;
    key->cell = cell;
    return true;
}

static int unknown_key(const LatentResnetConfig *c, const char *key, Error *err) {
    char blocks[128] = "";
    for (int i = 0, used = 0; i < c->stages && used >= 0 && used < (int)sizeof blocks; i++)
        used += snprintf(blocks + used, sizeof blocks - (size_t)used, "%s%d", i ? ", " : "", c->blocks[i]);
    return fail(
        err, DRPO_E_INPUT,
        "feature key '%s' is unknown; maps: latent, conv1, layer1..layer%d, layer<n>_blk<b> (blocks per layer: %s); "
        "each plain or with _mean, _std, or for cells of q x q, q >= 2: _mean_<q>, _std_<q>, _patch_<q> (all its "
        "numbers); and input_x2_mean, norm_x, latent_norm",
        key, c->stages, blocks);
}

static int cell_error(const char *key, int cell, int64_t height, int64_t width, Error *err) {
    char sizes[128] = "";
    int used = 0;
    for (int64_t q = 2; q <= height && q <= width && used < (int)sizeof sizes - 8; q++)
        if (height % q == 0 && width % q == 0)
            used += snprintf(sizes + used, sizeof sizes - (size_t)used, " %lld", (long long)q);
    if (cell)
        return fail(err, DRPO_E_INPUT, "feature key '%s': cells of %d do not divide the %lldx%lld map; possible:%s",
                    key, cell, (long long)height, (long long)width, used ? sizes : " none");
    return fail(err, DRPO_E_INPUT,
                "feature key '%s': the deviation of a whole map needs a square map, this one is %lldx%lld", key,
                (long long)height, (long long)width);
}

/* sqrt(mean x^2 + eps) is the deviation of x and -x together; two of each make a square. */
static Value norm_of(Graph *g, Value map, float eps) {
    const int64_t height = map->shape.dim[2], width = map->shape.dim[3];
    Value x = to_tokens(g, map), pair = concat(g, x, affine(g, x, -1, 0), 1);
    return pool_std(g, to_image(g, concat(g, pair, pair, 1), 2 * height, 2 * width), 2 * (int)width, eps, false);
}

/* Every stride-th row and column: one channel in stride^2 of the cells laid out as channels. */
static Value subsample(Graph *g, Value map, int stride) {
    const int64_t channels = map->shape.dim[1], cell = (int64_t)stride * stride;
    Value cells = pixel_unshuffle(g, map, stride), picked = NULL;
    for (int64_t c = 0; cells && c < channels; c++) {
        Value one = slice(g, cells, 1, c * cell, 1);
        picked = picked ? concat(g, picked, one, 1) : one;
    }
    return picked;
}

/* Norms and strides: what only raw latents have. */
static Value latent_special(Resnet *r, Value map, const Key *key) {
    Graph *g = r->b->g;
    const int64_t n = map->shape.dim[0], channels = map->shape.dim[1];
    const float positions = (float)(map->shape.dim[2] * map->shape.dim[3]);
    if (key->pooling == POOL_NONE) return to_tokens(g, subsample(g, map, r->c->latent_stride));
    if (key->pooling != POOL_SQUARES) return to_tokens(g, norm_of(g, map, key->pooling == POOL_NORM ? 1e-30f : 1e-6f));
    Value squares = sum_to(g, act(g, map, ACT_SQUARE), shape4(n, channels, 1, 1));
    return to_tokens(g, affine(g, squares, 1 / positions, 0));
}

static bool is_special(const Resnet *r, const Key *key) {
    return key->pooling >= POOL_SQUARES ||
           (key->stage == LATENT && key->pooling == POOL_NONE && r->c->latent_stride > 1);
}

/* map [N,C,H,W] -> [N,tokens,C] */
static int pool(Resnet *r, Value map, const Key *key, const char *text, Value *out, Error *err) {
    Graph *g = r->b->g;
    *out = NULL;
    if (!map) return 0; /* a mistake that graph_check reports */
    int64_t n = map->shape.dim[0], channels = map->shape.dim[1], height = map->shape.dim[2], width = map->shape.dim[3];
    int cell = key->cell ? key->cell : (int)width;
    if (is_special(r, key)) {
        if (key->pooling >= POOL_NORM && height != width) return cell_error(text, 0, height, width, err);
        *out = latent_special(r, map, key);
        return 0;
    }
    bool fits = height % cell == 0 && width % cell == 0 && (key->cell || height == width);
    Value pooled = map;
    if (key->pooling == POOL_MEAN && !key->cell && !fits)
        pooled = affine(g, sum_to(g, map, shape4(n, channels, 1, 1)), 1.0f / (float)(height * width), 0);
    else if (key->pooling != POOL_NONE && !fits)
        return cell_error(text, key->cell, height, width, err);
    else if (key->pooling == POOL_MEAN)
        pooled = avg_pool(g, map, cell);
    else if (key->pooling == POOL_PATCH)
        pooled = pixel_unshuffle(g, map, cell);
    else if (key->pooling == POOL_DEVIATION)
        pooled = pool_std(g, map, cell, r->c->std_eps, r->c->std_floor);
    *out = to_tokens(g, pooled);
    return 0;
}

/* Every key of the map that has just been built. */
static int take(Resnet *r, Value map, int stage, int block, const char *const *texts, Error *err) {
    for (int i = 0; i < r->n_keys; i++)
        if (r->key[i].stage == stage && r->key[i].block == block)
            TRY(pool(r, map, &r->key[i], texts[i], &r->features[i], err));
    return 0;
}

static Value residual_block(Resnet *r, Value x, int stage, int block) {
    Build *b = r->b;
    if (!x) return NULL;
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, "encoder.stages_%d.layers_%d", stage, block);
    int64_t width = r->c->width[stage];
    int groups = r->c->groups[stage], stride = stage > 0 && block == 0 ? 2 : 1;
    float eps = r->c->norm_eps;
    graph_segment(b->g, ++b->next_segment);
    Value y = layer_conv(b, x, width, 3, stride, pad_same(1), false, "%s.conv1", name);
    y = act(b->g, layer_group_norm(b, y, groups, eps, "%s.gn1", name), ACT_RELU);
    y = layer_conv(b, y, width, 3, 1, pad_same(1), false, "%s.conv2", name);
    y = layer_group_norm(b, y, groups, eps, "%s.gn2", name);
    if (x->shape.dim[1] != width || stride != 1) {
        x = layer_conv(b, x, width, 1, stride, pad_same(0), false, "%s.proj_conv", name);
        x = layer_group_norm(b, x, groups, eps, "%s.proj_gn", name);
    }
    y = act(b->g, add(b->g, x, y), ACT_RELU);
    graph_segment(b->g, 0);
    return y;
}

/* Tensors of layers that no key reaches. */
static void ignore_rest(Weights *w, const LatentResnetConfig *c, const Key *last) {
    char prefix[NAME_LENGTH];
    weights_ignore(w, "decoder.");
    for (int s = 0; s < c->stages; s++) {
        if (s < last->stage || (s == last->stage && last->block == STAGE_END)) continue;
        for (int i = s == last->stage ? last->block + 1 : 0; i < c->blocks[s]; i++) {
            snprintf(prefix, sizeof prefix, "encoder.stages_%d.layers_%d.", s, i);
            weights_ignore(w, prefix);
        }
        snprintf(prefix, sizeof prefix, "encoder.layer%d_norm.", s + 1);
        weights_ignore(w, prefix);
    }
}

static int build_encoder(Resnet *r, Value latents, const Key *last, const char *const *texts, Error *err) {
    const LatentResnetConfig *c = r->c;
    Build *b = r->b;
    Value x = layer_conv(b, latents, c->width[0], 3, 1, pad_same(1), false, "encoder.conv1");
    x = act(b->g, layer_group_norm(b, x, c->groups[0], c->norm_eps, "encoder.gn1"), ACT_RELU);
    TRY(take(r, x, STEM, STAGE_END, texts, err));
    for (int s = 0; s <= last->stage; s++) {
        int blocks = s == last->stage && last->block != STAGE_END ? last->block + 1 : c->blocks[s];
        for (int i = 0; i < blocks; i++) {
            x = residual_block(r, x, s, i);
            TRY(take(r, x, s, i, texts, err));
        }
        if (s == last->stage && last->block != STAGE_END) return 0;
        x = layer_group_norm(b, x, c->groups[s], c->norm_eps, "encoder.layer%d_norm", s + 1);
        TRY(take(r, x, s, STAGE_END, texts, err));
    }
    return 0;
}

int latent_resnet_features(Build *b, const LatentResnetConfig *c, Value latents, const char *const *keys, int n_keys,
                           Value *features, Error *err) {
    if (n_keys < 1 || n_keys > MAX_KEYS)
        return fail(err, DRPO_E_USAGE, "%d feature keys; give 1 to %d", n_keys, (int)MAX_KEYS);
    Resnet r = {.b = b, .c = c, .n_keys = n_keys, .features = features};
    Key last = {.stage = LATENT, .block = STAGE_END};
    for (int i = 0; i < n_keys; i++) {
        Key *key = &r.key[i];
        if (!parse_key(keys[i], c, key)) return unknown_key(c, keys[i], err);
        if (key->stage > last.stage || (key->stage == last.stage && key->block > last.block)) last = *key;
    }
    TRY(take(&r, latents, LATENT, STAGE_END, keys, err));
    if (last.stage != LATENT) {
        if (!b->weights) return fail(err, DRPO_E_INTERNAL, "feature keys of the network need its weights");
        ignore_rest(b->weights, c, &last);
        TRY(build_encoder(&r, latents, &last, keys, err));
    }
    return graph_check(b->g, err);
}
