/* Model files: the parts of a model by their names in a diffusers folder. See model_files.h. */
#include "model/model_files.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/advice.h"
#include "model/component_config.h"
#include "model/repository.h"
#include "model/single_file.h"

struct ModelFiles {
    Arena *arena;
    const char *path, *variant, *tokenizer;
    bool single; /* path is a checkpoint file */
    bool blank;
    Family family;
};

static int fail_path(const char *path, Error *err) {
    char get[ADVICE_LENGTH];
    return fail(err, DRPO_E_INPUT, "--model %s: no such folder; get one: %s", path, model_advice(path, get));
}

/* A folder that is no diffusers model; says what it holds instead. */
static int check_folder(const ModelFiles *f, Error *err) {
    char get[ADVICE_LENGTH];
    const char *index = path_join(f->arena, f->path, "model_index.json");
    if (!index) return fail(err, DRPO_E_MEMORY, "--model %s: out of memory", f->path);
    if (file_exists(index)) return 0;
    model_advice(f->path, get);
    static const char *const known[] = {"sd_turbo.safetensors", "sd_xl_turbo_1.0.safetensors",
                                        "sd_xl_turbo_1.0_fp16.safetensors"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *file = path_join(f->arena, f->path, known[i]);
        if (file && file_exists(file))
            return fail(err, DRPO_E_INPUT, "--model %s: no model_index.json, but %s; read that with --model %s, or: %s",
                        f->path, known[i], file, get);
    }
    return fail(err, DRPO_E_INPUT,
                "--model %s: no model_index.json; a diffusers folder of a one-step generator is needed, such as: %s",
                f->path, get);
}

static int open_single(ModelFiles *f, Error *err) {
    f->single = true;
    if (f->variant[0])
        return fail(err, DRPO_E_USAGE, "--variant %s: belongs to a folder, but --model %s is a file", f->variant,
                    f->path);
    return single_file_family(f->path, &f->family, err);
}

int model_files_open(const ModelChoice *choice, ModelFiles **out, Error *err) {
    *out = NULL;
    Arena *a = arena_new();
    ModelFiles *f = a ? arena_alloc(a, sizeof *f) : NULL;
    if (!f) {
        arena_free(a);
        return fail(err, DRPO_E_MEMORY, "--model %s: out of memory", choice->path);
    }
    *f = (ModelFiles){.arena = a,
                      .blank = choice->blank,
                      .path = arena_strdup(a, choice->path),
                      .variant = arena_strdup(a, choice->variant ? choice->variant : ""),
                      .tokenizer = arena_strdup(a, choice->tokenizer ? choice->tokenizer : "")};
    int code = arena_failed(a) ? fail(err, DRPO_E_MEMORY, "--model %s: out of memory", choice->path) : 0;
    if (code == 0)
        code = dir_exists(f->path)    ? check_folder(f, err)
               : file_exists(f->path) ? open_single(f, err)
                                      : fail_path(f->path, err);
    if (code < 0) {
        model_files_close(f);
        return code;
    }
    *out = f;
    return 0;
}

void model_files_close(ModelFiles *f) {
    if (f) arena_free(f->arena);
}

bool model_is_folder(const ModelFiles *f) { return !f->single; }

/* A model folder given with --tokenizer describes the file; else the published configuration of its family does. */
static int single_document(const ModelFiles *f, const char *name, const char **document, Error *err) {
    const char *given = f->tokenizer[0] ? path_join(f->arena, f->tokenizer, name) : NULL;
    *document = given && file_exists(given) ? given : family_document(f->family, name);
    if (*document) return 0;
    return fail(err, DRPO_E_INPUT, "%s: %s has no %s", f->path, family_repository(f->family), name);
}

int model_document(const ModelFiles *f, const char *name, const char **document, Error *err) {
    char get[ADVICE_LENGTH];
    if (f->single) return single_document(f, name, document, err);
    *document = path_join(f->arena, f->path, name);
    if (!*document) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    if (file_exists(*document)) return 0;
    return fail(err, DRPO_E_INPUT, "%s: is missing; get the whole model: %s", *document, model_advice(f->path, get));
}

/* A folder has its tokenizer's files, or a tokenizer's folder under the component's name. */
static const char *tokenizer_in(const ModelFiles *f, const char *folder, const char *component) {
    const char *place[] = {path_join(f->arena, folder, component), folder};
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        const char *vocab = place[i] ? path_join(f->arena, place[i], "vocab.json") : NULL;
        const char *all = place[i] ? path_join(f->arena, place[i], "tokenizer.json") : NULL;
        if (vocab && all && (file_exists(vocab) || file_exists(all))) return place[i];
    }
    return NULL;
}

/* A checkpoint file has no tokenizer: it lies beside the file, or in the cache with the published model. */
static int single_tokenizer(const ModelFiles *f, const char *component, const char **folder, Error *err) {
    const char *slash = strrchr(f->path, '/'), *id = family_repository(f->family), *cached = NULL;
    const char *beside = slash ? arena_printf(f->arena, "%.*s", (int)(slash - f->path), f->path) : ".";
    *folder = beside ? tokenizer_in(f, beside, component) : NULL;
    if (!*folder && repository_find(id, "", f->arena, &cached, NULL) == 0) *folder = tokenizer_in(f, cached, component);
    if (*folder) return 0;
    return fail(err, DRPO_E_INPUT,
                "--model %s: a checkpoint file has no tokenizer, and there is none beside it; give --tokenizer DIR, or "
                "get it: hf download %s --include \"tokenizer*\"",
                f->path, id);
}

int model_tokenizer_folder(const ModelFiles *f, const char *component, const char **folder, Error *err) {
    char get[ADVICE_LENGTH];
    bool given = f->tokenizer[0] != 0;
    if (f->single && !given) return single_tokenizer(f, component, folder, err);
    *folder = tokenizer_in(f, given ? f->tokenizer : f->path, component);
    if (*folder) return 0;
    if (arena_failed(f->arena)) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    if (given)
        return fail(err, DRPO_E_INPUT, "--tokenizer %s: no vocab.json or tokenizer.json there, nor in %s/",
                    f->tokenizer, component);
    return fail(err, DRPO_E_INPUT, "%s/%s: no vocab.json or tokenizer.json; get the whole model: %s", f->path,
                component, model_advice(f->path, get));
}

int model_tokenizer(const ModelFiles *f, const char *component, Tokenizer **out, Error *err) {
    const char *folder;
    TRY(model_tokenizer_folder(f, component, &folder, err));
    return tokenizer_open(folder, out, err);
}

/* How many layers of the first text encoder are used: the file of SD 2 has one more. */
static int text_layers(const ModelFiles *f, int *layers, Error *err) {
    const char *document, *where;
    json_t *root;
    TRY(model_document(f, "text_encoder/config.json", &document, err));
    TRY(document_load(document, &root, &where, err));
    *layers = (int)json_integer_value(json_object_get(root, "num_hidden_layers"));
    json_decref(root);
    return 0;
}

int model_weights(const ModelFiles *f, const char *component, const char *stem, Weights **out, Error *err) {
    if (f->single) {
        int layers = 0;
        TRY(text_layers(f, &layers, err));
        return single_file_weights(f->path, f->family, component, layers, out, err);
    }
    const char *folder = path_join(f->arena, f->path, component);
    if (!folder) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    return f->blank ? weights_blank(folder, out, err) : weights_open_variant(folder, stem, f->variant, out, err);
}
