/* Adapters of a session: a fresh one to train, or one read from wherever the user points. See session.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/full_weights.h"
#include "train/session.h"

int adapter_create(Pipeline *p, const Config *c, Adapter **out, Error *err) {
    if (config_choice(c, OPT_TRAINED) == 1) return full_new(p, out, err);
    const char *targets = config_text(c, OPT_LORA_TARGETS);
    Adapter *a = lora_new((int)config_int(c, OPT_LORA_RANK), (float)config_float(c, OPT_LORA_ALPHA), targets, err);
    if (!a) return err->code;
    a->dropout = (float)config_float(c, OPT_LORA_DROPOUT);
    int code = pipeline_register(p, a, NULL, err);
    if (code == 0 && a->n_pair == 0)
        code =
            fail(err, DRPO_E_USAGE, "--lora-targets %s: no linear layer of the UNet has a name that ends so", targets);
    if (code == 0) code = lora_allocate(a, err);
    if (code < 0) {
        lora_free(a);
        return code;
    }
    lora_init(a, (uint64_t)config_int(c, OPT_SEED));
    *out = a;
    return 0;
}

/* Of "PATH[:SCALE],PATH[:SCALE],...", how long the first is. */
static size_t first_length(const char *spec) {
    return file_exists(spec) || dir_exists(spec) ? strlen(spec) : strcspn(spec, ",");
}

const char *adapter_rest(const char *spec) {
    size_t n = first_length(spec);
    return spec[n] ? spec + n + 1 : NULL;
}

const char *adapter_split(const char *list, float *scale, Arena *a) {
    *scale = 1;
    const char *spec = arena_printf(a, "%.*s", (int)first_length(list), list),
               *colon = spec ? strrchr(spec, ':') : NULL;
    if (!colon || file_exists(spec) || dir_exists(spec)) return spec;
    char *end = NULL;
    float x = strtof(colon + 1, &end);
    if (end == colon + 1 || *end || !isfinite(x)) return spec;
    *scale = x;
    return arena_printf(a, "%.*s", (int)(colon - spec), spec);
}

const char *adapter_locate(const char *path, Arena *a, Error *err) {
    if (file_exists(path)) return path;
    if (!dir_exists(path)) {
        fail(err, DRPO_E_INPUT, "%s: no such adapter file or folder", path);
        return NULL;
    }
    static const char *const below[] = {"", "/final", "/unet_lora"};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        const char *folder = arena_printf(a, "%s%s", path, below[i]);
        const char *file = folder ? path_join(a, folder, "adapter_model.safetensors") : NULL;
        if (folder && ((file && file_exists(file)) || (i < 2 && full_is_in(folder)))) return folder;
    }
    const char *file = path_join(a, path, "pytorch_lora_weights.safetensors");
    if (file && file_exists(file)) return file;
    fail(err, DRPO_E_INPUT,
         "%s: holds no adapter (adapter_model.safetensors, final/ or pytorch_lora_weights.safetensors)", path);
    return NULL;
}

static int read_known(Pipeline *p, const char *path, float scale, Adapter **out, Error *err) {
    if (full_is_in(path) && scale == 1) return full_read(p, path, out, err);
    if (full_is_in(path)) return fail(err, DRPO_E_USAGE, "%s: holds a whole UNet, which has no scale", path);
    Adapter *known = lora_new(1, 1, "to_q", err);
    if (!known) return err->code;
    int code = pipeline_register(p, NULL, known, err);
    if (code == 0) code = lora_read(path, scale, known, out, err);
    lora_free(known);
    return code;
}

const char *adapter_base(const char *spec, Arena *a) {
    float scale;
    const char *path = adapter_split(spec, &scale, a);
    const char *folder = path ? adapter_locate(path, a, NULL) : NULL;
    const char *config = folder ? path_join(a, folder, "adapter_config.json") : NULL;
    json_t *root = NULL;
    if (!config || !file_exists(config) || json_load_path(config, &root, NULL) < 0) return NULL;
    const char *name = json_string_value(json_object_get(root, "base_model_name_or_path"));
    const char *base = name && name[0] ? arena_strdup(a, name) : NULL;
    json_decref(root);
    return base;
}

static int open_one(Pipeline *p, const char *spec, Adapter **out, Error *err) {
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "out of memory");
    float scale = 1;
    const char *path = adapter_split(spec, &scale, a);
    int code = path ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    const char *found = path ? adapter_locate(path, a, err) : NULL;
    if (code == 0) code = found ? read_known(p, found, scale, out, err) : err->code;
    arena_free(a);
    return code;
}

int adapter_open(Pipeline *p, const char *list, Adapter **out, Error *err) {
    Adapter *all = NULL;
    for (const char *spec = list; spec; spec = adapter_rest(spec)) {
        Adapter *one = NULL, *both = NULL;
        int code = open_one(p, spec, &one, err);
        if (code == 0 && !all) {
            all = one;
            continue;
        }
        if (code == 0) code = lora_combine(all, one, &both, err);
        lora_free(all);
        lora_free(one);
        if (code < 0) return code;
        all = both;
    }
    *out = all;
    return 0;
}
