/* Vision transformers as feature maps: pictures -> hidden states of every block. See vit.h. In the update: behind the
 * VAE decoder, in the feature stage.
 *
 * Published files and those of newer versions of transformers name the same layers differently; both are read. */
#include "model/vit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/resize.h"
#include "model/component_config.h"

enum { MAX_WIDTH = 1 << 14, MAX_LAYERS = 128, MAX_SIDE = 1 << 12, NAME_LENGTH = 128 };

/* ---- config ---- */
static int read_network(const JsonReader *r, void *config) {
    VitConfig *c = config;
    int image, ratio, mlp, colours;
    const char *type = json_get_string(r, "model_type", "");
    c->kind = strcmp(type, "dinov2") == 0 ? VIT_DINOV2 : VIT_MAE;
    if (c->kind == VIT_MAE && strcmp(type, "vit_mae") != 0)
        return fail(r->err, DRPO_E_INPUT, "%s: model_type '%s' is not supported (supported: dinov2, vit_mae)", r->where,
                    type);
    TRY(component_int(r, "hidden_size", 768, 1, MAX_WIDTH, &c->width));
    TRY(component_int(r, "num_hidden_layers", 12, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(r, "num_attention_heads", 12, 1, MAX_WIDTH, &c->heads));
    TRY(component_int(r, "mlp_ratio", 4, 1, 64, &ratio));
    TRY(component_int(r, "intermediate_size", 3072, 1, 4 * MAX_WIDTH, &mlp));
    TRY(component_int(r, "image_size", 224, 1, MAX_SIDE, &image));
    TRY(component_int(r, "patch_size", c->kind == VIT_DINOV2 ? 14 : 16, 1, MAX_SIDE, &c->patch));
    TRY(component_int(r, "num_channels", 3, 3, 3, &colours));
    TRY(component_act(r, "hidden_act", ACT_GELU, &c->act));
    c->mlp = c->kind == VIT_DINOV2 ? ratio * c->width : mlp;
    c->eps = (float)json_get_number(r, "layer_norm_eps", c->kind == VIT_DINOV2 ? 1e-6 : 1e-12);
    c->qkv_bias = json_get_bool(r, "qkv_bias", true);
    c->table = image / c->patch;
    const bool gated = json_get_bool(r, "use_swiglu_ffn", false);
    TRY(json_finish(r));
    if (gated) return fail(r->err, DRPO_E_INPUT, "%s: use_swiglu_ffn is not supported", r->where);
    if (!(c->eps > 0) || c->width % c->heads || !c->table)
        return fail(r->err, DRPO_E_INPUT, "%s: hidden_size, num_attention_heads, image_size or layer_norm_eps is wrong",
                    r->where);
    return 0;
}

/* Side of what the processor gives: crop_size height, else size height, else its shortest edge. */
static int read_size(const JsonReader *r, int *size) {
    static const char *const keys[] = {"crop_size", "size"}, *const sides[] = {"height", "shortest_edge"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *entry = json_object_get(r->object, keys[i]);
        JsonReader inner = {entry, r->where, r->err};
        if (json_is_integer(entry)) return component_int(r, keys[i], *size, 1, MAX_SIDE, size);
        for (size_t k = 0; json_is_object(entry) && k < 2; k++)
            if (json_has(&inner, sides[k])) return component_int(&inner, sides[k], *size, 1, MAX_SIDE, size);
    }
    return 0;
}

static int read_processor(const JsonReader *r, void *config) {
    VitConfig *c = config;
    double mean[3], std[3];
    const size_t means = json_get_numbers(r, "image_mean", mean, 3), stds = json_get_numbers(r, "image_std", std, 3);
    TRY(read_size(r, &c->size));
    for (size_t i = 0; i < 3; i++) {
        if (means == 3) c->mean[i] = (float)mean[i];
        if (stds == 3) c->std[i] = (float)std[i];
        if (!(c->std[i] > 0)) return fail(r->err, DRPO_E_INPUT, "%s: image_std must be positive", r->where);
    }
    return json_finish(r);
}

int vit_config_read(const char *folder, VitConfig *c, Error *err) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f}; /* ImageNet */
    char path[1024];
    *c = (VitConfig){.size = 224};
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->std, std, sizeof std);
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return fail(err, DRPO_E_INPUT, "%s: the path is too long", folder);
    TRY(component_read(path, read_network, c, err));
    snprintf(path, sizeof path, "%s/preprocessor_config.json", folder);
    FILE *there = fopen(path, "rb");
    if (!there) return 0;
    fclose(there);
    TRY(component_read(path, read_processor, c, err));
    if (c->size < c->patch) return fail(err, DRPO_E_INPUT, "%s: pictures are smaller than a patch", path);
    return 0;
}

int vit_grid(const VitConfig *c) { return c->size / c->patch; }

/* ---- names ---- */
static const char *name_prefix(const Weights *w) {
    static const char *const prefixes[] = {"vit.", "dinov2."};
    for (size_t i = 0; i < 2; i++)
        if (weights_has(w, "%sembeddings.cls_token", prefixes[i])) return prefixes[i];
    return "";
}

typedef struct LayerNames {
    char norm1[NAME_LENGTH], norm2[NAME_LENGTH], qkv[3][NAME_LENGTH], out[NAME_LENGTH], fc1[NAME_LENGTH],
        fc2[NAME_LENGTH], layer[NAME_LENGTH - 32];
} LayerNames;

static void join(char out[NAME_LENGTH], const char *layer, const char *name) {
    snprintf(out, NAME_LENGTH, "%s.%s", layer, name);
}

static void layer_names(const Weights *w, const VitConfig *c, const char *prefix, int i, LayerNames *n) {
    static const char *const published[] = {"attention.attention.query", "attention.attention.key",
                                            "attention.attention.value"},
                             *const newer[] = {"attention.q_proj", "attention.k_proj", "attention.v_proj"};
    snprintf(n->layer, sizeof n->layer, "%slayers.%d", prefix, i);
    if (!weights_has(w, "%s.%s.weight", n->layer, newer[0]))
        snprintf(n->layer, sizeof n->layer, "%sencoder.layer.%d", prefix, i);
    const bool new = weights_has(w, "%s.%s.weight", n->layer, newer[0]), mae = c->kind == VIT_MAE;
    const bool old_mae = mae && weights_has(w, "%s.intermediate.dense.weight", n->layer);
    for (int k = 0; k < 3; k++) join(n->qkv[k], n->layer, new ? newer[k] : published[k]);
    join(n->out, n->layer, new ? "attention.o_proj" : "attention.output.dense");
    join(n->norm1, n->layer, mae ? "layernorm_before" : "norm1");
    join(n->norm2, n->layer, mae ? "layernorm_after" : "norm2");
    join(n->fc1, n->layer, old_mae ? "intermediate.dense" : "mlp.fc1");
    join(n->fc2, n->layer, old_mae ? "output.dense" : "mlp.fc2");
}

static void ignore_rest(Build *b, const VitConfig *c, const char *prefix, int last) {
    static const char *const parts[] = {"layernorm.", "embeddings.mask_token", "embeddings.position_embeddings"};
    char name[NAME_LENGTH];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, parts[i]);
        weights_ignore(b->weights, name);
    }
    weights_ignore(b->weights, "decoder.");
    weights_ignore(b->weights, "classifier.");
    for (int i = last; i < c->layers; i++)
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s%s.%d.", prefix, k ? "layers" : "encoder.layer", i);
            weights_ignore(b->weights, name);
        }
}

/* ---- positions ---- */

/* Both axes of the grid, channel by channel, as interpolate(mode="bicubic") does without antialias. */
static int resize_table(const VitConfig *c, const float *table, float *out, Error *err) {
    const int from = c->table, to = vit_grid(c), width = c->width;
    Resize resize;
    TRY(resize_new(RESIZE_PLAIN, from, from, to, to, &resize, err));
    float *in_plane = malloc(sizeof *in_plane * (size_t)(from * from)),
          *out_plane = malloc(sizeof *out_plane * (size_t)(to * to));
    int code = in_plane && out_plane ? 0 : fail(err, DRPO_E_MEMORY, "vision network: out of memory");
    for (int k = 0; code == 0 && k < width; k++) {
        for (int i = 0; i < from * from; i++) in_plane[i] = table[(size_t)i * (size_t)width + (size_t)k];
        code = resize_planes(&resize, in_plane, 1, out_plane, err);
        for (int i = 0; code == 0 && i < to * to; i++) out[(size_t)i * (size_t)width + (size_t)k] = out_plane[i];
    }
    free(in_plane);
    free(out_plane);
    resize_free(&resize);
    return code;
}

int vit_positions_new(const VitConfig *c, Weights *w, VitPositions *out, Error *err) {
    const int64_t from = 1 + (int64_t)c->table * c->table, to = 1 + (int64_t)vit_grid(c) * vit_grid(c);
    const size_t width = (size_t)c->width;
    Param *p = weights_get(w, shape3(1, from, c->width), "%sembeddings.position_embeddings", name_prefix(w));
    if (!p) return fail(err, DRPO_E_INPUT, "%s", weights_mistake(w));
    float *table = malloc(sizeof *table * (size_t)from * width);
    out->values = malloc(sizeof *table * (size_t)to * width);
    int code = table && out->values ? 0 : fail(err, DRPO_E_MEMORY, "vision network: out of memory");
    if (code == 0) {
        dtype_to_f32(p->dtype, p->data, 0, (size_t)from * width, table);
        memcpy(out->values, table, width * sizeof *table);
        if (from == to)
            memcpy(out->values, table, (size_t)to * width * sizeof *table);
        else
            code = resize_table(c, table + width, out->values + width, err);
        out->param = (Param){
            .name = "position_embeddings", .dtype = DT_F32, .shape = shape3(1, to, c->width), .data = out->values};
    }
    free(table);
    return code;
}

void vit_positions_free(VitPositions *p) {
    free(p->values);
    *p = (VitPositions){0};
}

/* ---- network ---- */
static Value weight(Build *b, Shape shape, const char *name) {
    Param *p = weights_get(b->weights, shape, "%s", name);
    if (p) return param(b->g, p);
    graph_mistake(b->g, "%s", weights_mistake(b->weights));
    return NULL;
}

/* Patches get their positions first, then some are kept, then the class token comes in front: as ViT-MAE masks. */
static Value embeddings(Build *b, const VitConfig *c, VitPositions *positions, Value pixels, Value keep,
                        const char *prefix) {
    Graph *g = b->g;
    char name[NAME_LENGTH];
    if (!pixels) return NULL;
    const int64_t n = pixels->shape.dim[0], patches = (int64_t)vit_grid(c) * vit_grid(c), width = c->width;
    Value places = param(g, &positions->param);
    Value x = layer_conv(b, pixels, width, c->patch, c->patch, pad_same(0), true,
                         "%sembeddings.patch_embeddings.projection", prefix);
    x = add(g, to_tokens(g, x), slice(g, places, 1, 1, patches));
    if (keep) x = matmul(g, keep, x, false, false);
    snprintf(name, sizeof name, "%sembeddings.cls_token", prefix);
    Value class = add(g, weight(b, shape3(1, 1, width), name), slice(g, places, 1, 0, 1));
    return concat(g, broadcast_to(g, class, shape3(n, 1, width)), x, 1);
}

static Value scaled(Build *b, const VitConfig *c, Value x, const LayerNames *n, const char *scale) {
    if (c->kind != VIT_DINOV2) return x;
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, "%s.%s.lambda1", n->layer, scale);
    return mul(b->g, x, reshape(b->g, weight(b, shape1(c->width), name), shape3(1, 1, c->width)));
}

static Value block(Build *b, const VitConfig *c, Value x, const LayerNames *n) {
    Graph *g = b->g;
    Value qkv[3];
    graph_segment(g, ++b->next_segment);
    Value h = layer_layer_norm(b, x, c->eps, "%s", n->norm1);
    for (int k = 0; k < 3; k++) qkv[k] = layer_linear(b, h, c->width, c->qkv_bias, "%s", n->qkv[k]);
    h = layer_linear(b, attention(g, qkv[0], qkv[1], qkv[2], c->heads, false), c->width, true, "%s", n->out);
    x = add(g, x, scaled(b, c, h, n, "layer_scale1"));
    h = layer_layer_norm(b, x, c->eps, "%s", n->norm2);
    h = act(g, layer_linear(b, h, c->mlp, true, "%s", n->fc1), c->act);
    x = add(g, x, scaled(b, c, layer_linear(b, h, c->width, true, "%s", n->fc2), n, "layer_scale2"));
    graph_segment(g, 0);
    return x;
}

void vit_build(Build *b, const VitConfig *c, VitPositions *positions, Value pixels, Value keep, int last,
               Value *hidden) {
    const char *prefix = name_prefix(b->weights);
    ignore_rest(b, c, prefix, last);
    Value x = embeddings(b, c, positions, pixels, keep, prefix);
    hidden[0] = x;
    for (int i = 0; i < last; i++) {
        LayerNames names;
        layer_names(b->weights, c, prefix, i, &names);
        x = block(b, c, x, &names);
        hidden[i + 1] = x;
    }
}
