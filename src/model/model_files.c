/* Model files: the parts of a model by their names in a diffusers folder. See model_files.h. */
#include "model/model_files.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/advice.h"

struct ModelFiles {
    Arena *arena;
    const char *path, *variant, *tokenizer;
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
    return fail(err, DRPO_E_INPUT,
                "--model %s: no model_index.json; a diffusers folder of a one-step generator is needed, such as: %s",
                f->path, get);
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
                      .path = arena_strdup(a, choice->path),
                      .variant = arena_strdup(a, choice->variant ? choice->variant : ""),
                      .tokenizer = arena_strdup(a, choice->tokenizer ? choice->tokenizer : "")};
    int code = arena_failed(a) ? fail(err, DRPO_E_MEMORY, "--model %s: out of memory", choice->path) : 0;
    if (code == 0) code = dir_exists(f->path) ? check_folder(f, err) : fail_path(f->path, err);
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

bool model_is_folder(const ModelFiles *f) { return dir_exists(f->path); }

int model_document(const ModelFiles *f, const char *name, const char **document, Error *err) {
    char get[ADVICE_LENGTH];
    *document = path_join(f->arena, f->path, name);
    if (!*document) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    if (file_exists(*document)) return 0;
    return fail(err, DRPO_E_INPUT, "%s: is missing; get the whole model: %s", *document, model_advice(f->path, get));
}

/* A folder has its tokenizer's files, or a tokenizer's folder under the component's name. */
static const char *tokenizer_in(const ModelFiles *f, const char *folder, const char *component) {
    const char *below = path_join(f->arena, folder, component);
    const char *vocab = below ? path_join(f->arena, below, "vocab.json") : NULL;
    if (vocab && file_exists(vocab)) return below;
    vocab = path_join(f->arena, folder, "vocab.json");
    return vocab && file_exists(vocab) ? folder : NULL;
}

int model_tokenizer_folder(const ModelFiles *f, const char *component, const char **folder, Error *err) {
    char get[ADVICE_LENGTH];
    bool given = f->tokenizer[0] != 0;
    *folder = tokenizer_in(f, given ? f->tokenizer : f->path, component);
    if (*folder) return 0;
    if (arena_failed(f->arena)) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    if (given)
        return fail(err, DRPO_E_INPUT, "--tokenizer %s: no vocab.json there, nor in %s/", f->tokenizer, component);
    return fail(err, DRPO_E_INPUT, "%s/%s: no vocab.json; get the whole model: %s", f->path, component,
                model_advice(f->path, get));
}

int model_tokenizer(const ModelFiles *f, const char *component, Tokenizer **out, Error *err) {
    const char *folder;
    TRY(model_tokenizer_folder(f, component, &folder, err));
    return tokenizer_open(folder, out, err);
}

int model_weights(const ModelFiles *f, const char *component, const char *stem, Weights **out, Error *err) {
    const char *folder = path_join(f->arena, f->path, component);
    if (!folder) return fail(err, DRPO_E_MEMORY, "%s: out of memory", f->path);
    return weights_open_variant(folder, stem, f->variant, out, err);
}
