/* Opening a CLIP model: which files, which configuration, and that both belong together. */
#include "model/clip.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/advice.h"
#include "model/checkpoint_tensors.h"
#include "model/clip_names.h"
#include "model/component_config.h"
#include "model/repository.h"

/* ---- configuration ---- */

static int read_section(const JsonReader *r, const char *key, JsonReader *out) {
    *out = (JsonReader){json_object_get(r->object, key), r->where, r->err};
    if (json_is_object(out->object)) return 0;
    return fail(r->err, DRPO_E_INPUT, "%s: has no %s; the config.json of a CLIPModel is needed", r->where, key);
}

static int read_config(const JsonReader *r, void *config) {
    ClipConfig *c = config;
    JsonReader section;
    const char *kind = json_get_string(r, "model_type", "clip");
    if (strcmp(kind, "clip") != 0)
        return fail(r->err, DRPO_E_INPUT, "%s: model_type '%s' is not supported (supported: clip)", r->where, kind);
    TRY(read_section(r, "text_config", &section));
    TRY(clip_text_config_section(&section, &c->text));
    TRY(read_section(r, "vision_config", &section));
    TRY(clip_vision_config_section(&section, &c->vision));
    TRY(component_int(r, "projection_dim", 512, 1, 1 << 14, &c->projection));
    c->text.projection = true;
    c->text.projection_dim = c->projection;
    return json_finish(r);
}

int clip_config_read(const char *path, ClipConfig *c, Error *err) {
    *c = (ClipConfig){0};
    return component_read(path, read_config, c, err);
}

/* What the shapes of a file do not tell: heads and activation. */
typedef struct Published {
    const char *name;
    int text_width, text_layers, text_heads, width, layers, heads, mlp, projection;
    Act act, openclip_act; /* under transformers' and OpenCLIP's names; ACT_NONE: both were published */
} Published;

static const Published published[] = {
    {"ViT-L/14", 768, 12, 12, 1024, 24, 16, 4096, 768, ACT_QUICK_GELU, ACT_NONE},
    {"ViT-H/14", 1024, 24, 16, 1280, 32, 16, 5120, 1024, ACT_GELU, ACT_GELU},
};

static Act act_of(const Published *p, bool openclip, const char *activation) {
    if (*activation) return strcmp(activation, "gelu") == 0 ? ACT_GELU : ACT_QUICK_GELU;
    return openclip ? p->openclip_act : p->act;
}

int clip_config_published(const char *path, int text_width, int vision_width, bool openclip, const char *activation,
                          ClipConfig *c, Error *err) {
    const Published *p = NULL;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (published[i].text_width == text_width && published[i].width == vision_width) p = &published[i];
    if (!p)
        return fail(err, DRPO_E_INPUT,
                    "%s: a CLIP model of widths %d and %d is none of the published ones that are known (ViT-L/14, "
                    "ViT-H/14); put its config.json beside it",
                    path, text_width, vision_width);
    const Act act = act_of(p, openclip, activation);
    if (act == ACT_NONE)
        return fail(err, DRPO_E_INPUT,
                    "%s: %s exists with two activations; say which by ?activation=quick_gelu (OpenAI's) or "
                    "?activation=gelu (LAION's)",
                    path, p->name);
    *c = (ClipConfig){
        .text = {49408, p->text_width, p->text_layers, p->text_heads, 4 * p->text_width, 77, 1e-5f, act, true,
                 p->projection, 49407},
        .vision = {p->width, p->layers, p->heads, p->mlp, 14, 224, 1e-5f, act},
        .projection = p->projection,
    };
    return 0;
}

/* ---- weights ---- */

static int rename_tensors(WeightsParts *parts, const SafeFile *f, bool openclip, Error *err) {
    parts->tensor = arena_alloc(parts->arena, (safetensors_count(f) * CHECKPOINT_PARTS + 1) * sizeof *parts->tensor);
    if (!parts->tensor) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its list of tensors", parts->path);
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        CheckpointName to;
        if (!openclip) {
            parts->tensor[parts->count++] = *t;
            continue;
        }
        if (!clip_name(t->name, &to))
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' belongs to no CLIP model", parts->path, t->name);
        if (to.component) TRY(checkpoint_tensors_add(parts, t, &to, err));
    }
    return 0;
}

int clip_weights_open(const char *path, bool *openclip, Weights **out, Error *err) {
    *out = NULL;
    WeightsParts parts = {.arena = arena_new()};
    int code = weights_parts_map(&parts, path, err);
    if (code == 0) {
        *openclip = safetensors_find(parts.file[0], "visual.conv1.weight") != NULL;
        code = rename_tensors(&parts, parts.file[0], *openclip, err);
    }
    return weights_from(&parts, code, out, err);
}

/* ---- files ---- */

typedef struct Files {
    const ClipChoice *choice;
    Arena *arena;
    const char *folder; /* of the model, or of the file */
    const char *file;   /* NULL: an index of several */
} Files;

static const char *in_folder(const Files *f, const char *name) {
    const char *path = path_join(f->arena, f->folder, name);
    return path && file_exists(path) ? path : NULL;
}

static int find_weights(Files *f, Error *err) {
    static const char *const names[] = {
        "model.safetensors",      "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
        "model.fp16.safetensors", "pytorch_model.bin",           "open_clip_pytorch_model.bin"};
    if (in_folder(f, "model.safetensors.index.json")) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && !f->file; i++) f->file = in_folder(f, names[i]);
    if (f->file) return 0;
    return fail(err, DRPO_E_INPUT, "%s: no model.safetensors in this folder; get it: hf download %s --local-dir %s",
                f->folder, f->choice->get, f->folder);
}

static int find_files(Files *f, Error *err) {
    const char *path = f->choice->path, *slash = strrchr(path, '/');
    if (!f->arena) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    f->folder = path;
    if (file_exists(path) && !dir_exists(path)) {
        f->file = path;
        f->folder = slash ? arena_printf(f->arena, "%.*s", (int)(slash - path), path) : ".";
        return f->folder ? 0 : fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    }
    if (!dir_exists(path)) {
        if (!repository_is_id(path))
            return fail(err, DRPO_E_INPUT, "%s: no such file or folder; get it: hf download %s", path, f->choice->get);
        TRY(repository_find(path, "", f->arena, &f->folder, err));
    }
    return find_weights(f, err);
}

/* The config.json of a whole CLIP model beside the weights; other models have one too. */
static bool has_config(const char *path) {
    json_t *root = NULL;
    Error ignored = {0};
    if (!path || json_load_path(path, &root, &ignored) < 0) return false;
    const bool is = json_is_object(json_object_get(root, "vision_config"));
    json_decref(root);
    return is;
}

static int read_configuration(const Files *f, bool openclip, ClipModel *m, Error *err) {
    Shape text = {0}, vision = {0};
    const char *config = in_folder(f, "config.json"), *activation = f->choice->activation;
    if (has_config(config)) {
        TRY(clip_config_read(config, &m->config, err));
        if (*activation)
            m->config.text.act = m->config.vision.act = strcmp(activation, "gelu") == 0 ? ACT_GELU : ACT_QUICK_GELU;
        return 0;
    }
    if (!weights_shape(m->weights, &vision, "vision_model.embeddings.class_embedding") || vision.rank != 1 ||
        !weights_shape(m->weights, &text, "text_model.final_layer_norm.weight") || text.rank != 1)
        return fail(err, DRPO_E_INPUT, "%s: is no CLIP model with both towers; get one: hf download %s",
                    weights_path(m->weights), f->choice->get);
    return clip_config_published(weights_path(m->weights), (int)text.dim[0], (int)vision.dim[0], openclip, activation,
                                 &m->config, err);
}

static bool is_tokenizer(const Files *f, const char *folder) {
    const char *vocab = folder ? path_join(f->arena, folder, "vocab.json") : NULL;
    const char *all = folder ? path_join(f->arena, folder, "tokenizer.json") : NULL;
    return (vocab && file_exists(vocab)) || (all && file_exists(all));
}

/* One vocabulary serves all published CLIP models, so that any of them in the cache will do. */
static int find_tokenizer(const Files *f, const char **folder, Error *err) {
    static const char *const cached[] = {"openai/clip-vit-large-patch14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"};
    const char *given = f->choice->tokenizer, *base = *given ? given : f->folder, *found = NULL;
    const char *const places[] = {base, path_join(f->arena, base, "tokenizer")};
    for (size_t i = 0; i < 2; i++) {
        *folder = places[i];
        if (is_tokenizer(f, places[i])) return 0;
    }
    for (size_t i = 0; !*given && i < sizeof cached / sizeof *cached; i++) {
        if (repository_find(cached[i], "", f->arena, &found, NULL) < 0 || !is_tokenizer(f, found)) continue;
        *folder = found;
        return 0;
    }
    return fail(err, DRPO_E_INPUT,
                "%s: no tokenizer (vocab.json or tokenizer.json) there; give ?tokenizer=FOLDER, or get it: hf download "
                "openai/clip-vit-large-patch14 --include \"tokenizer*\"",
                base);
}

static int open_tokenizer(const Files *f, ClipModel *m, Error *err) {
    const char *folder = NULL;
    TRY(find_tokenizer(f, &folder, err));
    TRY(tokenizer_open(folder, &m->tokenizer, err));
    if (tokenizer_vocab(m->tokenizer) <= m->config.text.vocab &&
        tokenizer_length(m->tokenizer) <= m->config.text.positions)
        return 0;
    return fail(err, DRPO_E_INPUT, "%s: a tokenizer of %d entries and %d tokens; %s takes %d and %d", folder,
                tokenizer_vocab(m->tokenizer), tokenizer_length(m->tokenizer), weights_path(m->weights),
                m->config.text.vocab, m->config.text.positions);
}

static int open_model(Files *f, ClipModel *m, Error *err) {
    bool openclip = false;
    TRY(find_files(f, err));
    TRY(f->file ? clip_weights_open(f->file, &openclip, &m->weights, err)
                : weights_open(f->folder, "model", &m->weights, err));
    TRY(read_configuration(f, openclip, m, err));
    TRY(clip_check(m->weights, &m->config, err));
    const Param *scale = weights_get(m->weights, (Shape){0}, "logit_scale");
    dtype_to_f32(scale->dtype, scale->data, 0, 1, &m->scale);
    m->scale = expf(m->scale);
    return f->choice->texts ? open_tokenizer(f, m, err) : 0;
}

int clip_open(const ClipChoice *choice, ClipModel *out, Error *err) {
    *out = (ClipModel){0};
    Files f = {.choice = choice, .arena = arena_new()};
    const int code = open_model(&f, out, err);
    arena_free(f.arena);
    if (code < 0) clip_close(out);
    return code;
}

void clip_close(ClipModel *m) {
    tokenizer_free(m->tokenizer);
    weights_free(m->weights);
    *m = (ClipModel){0};
}

/* ---- strictness ---- */

void clip_build_smallest(Build *b, const ClipConfig *c) {
    Graph *g = b->g;
    Value last = NULL;
    clip_text_build(b, &c->text, input(g, "ids", DT_I32, shape2(1, 1)), &last, NULL);
    (void)clip_text_project(b, &c->text, last, input(g, "at_end", DT_F32, shape3(1, 1, 1)));
    (void)clip_vision_build(b, &c->vision, c->projection,
                            input(g, "pixels", DT_F32, shape4(1, 3, c->vision.image, c->vision.image)));
    (void)weights_get(b->weights, (Shape){0}, "logit_scale");
}

int clip_check(Weights *w, const ClipConfig *c, Error *err) {
    Arena *arena = arena_new();
    Build b = {.g = arena ? graph_new(arena) : NULL, .weights = w};
    if (!b.g) {
        arena_free(arena);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory", weights_path(w));
    }
    clip_build_smallest(&b, c);
    int code = weights_finish(w, err); /* its words say more than the graph's */
    if (code == 0) code = graph_check(b.g, err);
    arena_free(arena);
    return code;
}
