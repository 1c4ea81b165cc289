/* Finding a component's weights in its folder: one safetensors file, or several listed by an index, in the variant that
 * was asked for. A folder without them is the most common mistake with a model, so what is there instead is named. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/torch_pickle.h"
#include "model/advice.h"
#include "model/weights.h"

static const char USUAL_VARIANT[] = "fp16";

/* ---- which file ---- */

/* FOLDER/<stem>[.<variant>].safetensors, else FOLDER/<stem>.safetensors.index[.<variant>].json; NULL: neither. */
static const char *find_variant(const char *folder, const char *stem, const char *variant, Arena *a) {
    const char *dot = variant[0] ? "." : "";
    const char *path = arena_printf(a, "%s/%s%s%s.safetensors", folder, stem, dot, variant);
    if (path && file_exists(path)) return path;
    path = arena_printf(a, "%s/%s.safetensors.index%s%s.json", folder, stem, dot, variant);
    return path && file_exists(path) ? path : NULL;
}

/* What models from before safetensors have: a file of torch.save, which is read as data; NULL: none. */
static const char *find_checkpoint(const char *folder, const char *stem, Arena *a) {
    const char *path = arena_printf(a, "%s/%s%s.bin", folder, strcmp(stem, "model") == 0 ? "pytorch_" : "", stem);
    return path && torch_pickle_is(path) ? path : NULL;
}

/* The first file of the folder whose name ends so; NULL: none. */
static const char *first_ending(const char *folder, const char *end, Arena *a) {
    struct dirent **entry = NULL;
    int n = scandir(folder, &entry, NULL, alphasort);
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        if (!found && ends_with(entry[i]->d_name, end)) found = arena_strdup(a, entry[i]->d_name);
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    return found;
}

/* "fp16" of "<stem>.fp16.safetensors"; NULL for names of another form. */
static const char *variant_of(const char *name, const char *stem, Arena *a) {
    size_t n = strlen(stem);
    if (!name || strncmp(name, stem, n) != 0 || name[n] != '.') return NULL;
    size_t length = strcspn(name + n + 1, ".");
    return strcmp(name + n + 1 + length, ".safetensors") == 0 ? arena_printf(a, "%.*s", (int)length, name + n + 1)
                                                              : NULL;
}

static int fail_missing(const char *folder, const char *stem, const char *variant, Arena *a, Error *err) {
    char get[ADVICE_LENGTH];
    model_advice(folder, get);
    if (!dir_exists(folder)) return fail(err, DRPO_E_INPUT, "%s: no such folder; get the whole model: %s", folder, get);
    const char *weights = first_ending(folder, ".safetensors", a), *pickle = first_ending(folder, ".bin", a);
    const char *other = variant_of(weights, stem, a), *plain = find_variant(folder, stem, "", a);
    if (variant[0] && plain)
        return fail(err, DRPO_E_INPUT, "--variant %s: %s has no such file, only the plain one; leave --variant out",
                    variant, folder);
    if (weights && other)
        return fail(err, DRPO_E_INPUT, "%s: no %s%s%s.safetensors, but %s; read it with --variant %s", folder, stem,
                    variant[0] ? "." : "", variant, weights, other);
    const char *linked = arena_printf(a, "%s/%s", folder, weights ? weights : "");
    if (weights && linked && !file_exists(linked))
        return fail(err, DRPO_E_INPUT, "%s: a link to nothing; fetch the file again: %s", linked, get);
    if (pickle)
        return fail(err, DRPO_E_INPUT,
                    "%s: only %s, a pickle that is not of the form that PyTorch writes since 1.6; get safetensors: %s",
                    folder, pickle, get);
    return fail(err, DRPO_E_INPUT, "%s: no %s.safetensors in this folder; get it: %s", folder, stem, get);
}

static int choose(const char *folder, const char *stem, const char *variant, Arena *a, const char **path, Error *err) {
    *path = find_variant(folder, stem, variant, a);
    if (!*path && !variant[0]) *path = find_variant(folder, stem, USUAL_VARIANT, a);
    if (!*path && !variant[0]) *path = find_checkpoint(folder, stem, a);
    if (*path) return 0;
    return arena_failed(a) ? fail(err, DRPO_E_MEMORY, "%s: out of memory", folder)
                           : fail_missing(folder, stem, variant, a, err);
}

/* ---- opening ---- */

int weights_map(const char *path, SafeFile **out, Error *err) {
    char get[ADVICE_LENGTH];
    if (advice_is_pointer(path))
        return fail(err, DRPO_E_INPUT,
                    "%s: is a git-lfs pointer, not the weights; run 'git lfs pull' in its repository, or: %s", path,
                    model_advice(path, get));
    return torch_pickle_is(path) ? torch_pickle_open(path, NULL, out, err) : safetensors_open(path, out, err);
}

/* Opens FILE of the index unless it is open already. */
static int add_file(WeightsParts *parts, const char *folder, const char *name, SafeFile **out, Error *err) {
    const char *path = arena_printf(parts->arena, "%s/%s", folder, name);
    if (!path) return fail(err, DRPO_E_MEMORY, "%s: out of memory", parts->path);
    if (strchr(name, '/')) return fail(err, DRPO_E_INPUT, "%s: '%s' is no file of its folder", parts->path, name);
    for (int i = 0; i < parts->files; i++)
        if (strcmp(safetensors_path(parts->file[i]), path) == 0) {
            *out = parts->file[i];
            return 0;
        }
    char get[ADVICE_LENGTH];
    if (!file_exists(path))
        return fail(err, DRPO_E_INPUT, "%s: lists %s, which is missing; fetch it: %s", parts->path, name,
                    model_advice(folder, get));
    TRY(weights_map(path, out, err));
    parts->file[parts->files++] = *out;
    return 0;
}

static int by_path(const void *a, const void *b) {
    return strcmp(safetensors_path(*(SafeFile *const *)a), safetensors_path(*(SafeFile *const *)b));
}

/* Every file that the map names; every tensor must be where the map says. */
static int open_listed(WeightsParts *parts, const char *folder, const json_t *map, Error *err) {
    const char *tensor;
    json_t *value;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return fail(err, DRPO_E_INPUT, "%s: has no \"weight_map\" of tensors and their files", parts->path);
    parts->file = arena_alloc(parts->arena, json_object_size(map) * sizeof(SafeFile *));
    if (!parts->file) return fail(err, DRPO_E_MEMORY, "%s: out of memory", parts->path);
    json_object_foreach((json_t *)map, tensor, value) {
        SafeFile *file = NULL;
        if (!json_is_string(value))
            return fail(err, DRPO_E_INPUT, "%s: the file of tensor '%s' is not a text", parts->path, tensor);
        TRY(add_file(parts, folder, json_string_value(value), &file, err));
        if (!safetensors_find(file, tensor))
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is not in %s; do they belong together?", parts->path,
                        tensor, json_string_value(value));
    }
    qsort(parts->file, (size_t)parts->files, sizeof(SafeFile *), by_path);
    return 0;
}

static int open_index(WeightsParts *parts, const char *folder, Error *err) {
    json_t *root;
    TRY(json_load_path(parts->path, &root, err));
    int code = open_listed(parts, folder, json_object_get(root, "weight_map"), err);
    json_decref(root);
    return code;
}

int weights_parts_map(WeightsParts *parts, const char *path, Error *err) {
    if (!parts->arena) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    parts->path = arena_strdup(parts->arena, path);
    parts->file = arena_alloc(parts->arena, sizeof(SafeFile *));
    if (!parts->path || !parts->file) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    TRY(weights_map(path, &parts->file[0], err));
    parts->files = 1;
    return 0;
}

static int list_tensors(WeightsParts *parts, Error *err) {
    for (int i = 0; i < parts->files; i++) parts->count += safetensors_count(parts->file[i]);
    parts->tensor = arena_alloc(parts->arena, (parts->count + 1) * sizeof *parts->tensor);
    if (!parts->tensor) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its list of tensors", parts->path);
    size_t n = 0;
    for (int i = 0; i < parts->files; i++)
        for (size_t j = 0; j < safetensors_count(parts->file[i]); j++)
            parts->tensor[n++] = *safetensors_at(parts->file[i], j);
    return 0;
}

static int open_parts(WeightsParts *parts, const char *folder, const char *stem, const char *variant, Error *err) {
    if (!parts->arena) return fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    TRY(choose(folder, stem, variant, parts->arena, &parts->path, err));
    TRY(ends_with(parts->path, ".json") ? open_index(parts, folder, err) : weights_parts_map(parts, parts->path, err));
    return list_tensors(parts, err);
}

int weights_open_variant(const char *folder, const char *stem, const char *variant, Weights **out, Error *err) {
    *out = NULL;
    WeightsParts parts = {.arena = arena_new()};
    const int code = open_parts(&parts, folder, stem, variant ? variant : "", err);
    return weights_from(&parts, code, out, err);
}

int weights_open_file(const char *path, Weights **out, Error *err) {
    *out = NULL;
    WeightsParts parts = {.arena = arena_new()};
    int code = weights_parts_map(&parts, path, err);
    if (code == 0) code = list_tensors(&parts, err);
    return weights_from(&parts, code, out, err);
}

int weights_open(const char *folder, const char *stem, Weights **out, Error *err) {
    return weights_open_variant(folder, stem, "", out, err);
}
