/* Full weights: copies of a UNet's tensors that can be trained, written and read back. See full_weights.h. */
#include "model/full_weights.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/component_config.h"

const char full_file[] = "unet/diffusion_pytorch_model.safetensors";

static Shape shape_of(const SafeTensor *t) {
    Shape s = {.rank = t->rank};
    for (int i = 0; i < t->rank && i < MAX_RANK; i++) s.dim[i] = t->dim[i];
    return s;
}

/* The values of `from` in float32, one tensor after another. */
static int copy_values(const Weights *from, Adapter *a, SafeTensor *tensor, Error *err) {
    for (size_t i = 0; i < weights_count(from); i++) a->count += (size_t)shape_count(shape_of(weights_at(from, i)));
    a->values = malloc(a->count * sizeof *a->values);
    if (!a->values) return fail(err, DRPO_E_MEMORY, "no memory for %zu MiB of trained weights", a->count * 4 >> 20);
    size_t at = 0;
    for (size_t i = 0; i < weights_count(from); i++) {
        const SafeTensor *t = weights_at(from, i);
        const size_t n = (size_t)shape_count(shape_of(t));
        dtype_to_f32(t->dtype, t->data, 0, n, a->values + at);
        tensor[i] = *t;
        tensor[i].dtype = DT_F32;
        tensor[i].data = a->values + at;
        tensor[i].bytes = n * sizeof(float);
        at += n;
    }
    return 0;
}

/* Names stay those of `from`. */
static int fill(const Weights *from, Adapter *a, Error *err) {
    WeightsParts parts = {.arena = arena_new(), .count = weights_count(from)};
    if (!parts.arena) return fail(err, DRPO_E_MEMORY, "out of memory");
    parts.path = arena_strdup(parts.arena, weights_path(from));
    parts.tensor = arena_alloc(parts.arena, (parts.count + 1) * sizeof(SafeTensor));
    const int code = parts.path && parts.tensor ? copy_values(from, a, parts.tensor, err)
                                                : fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(weights_from(&parts, code, &a->full, err));
    weights_train(a->full);
    return 0;
}

int full_of(const Weights *from, Adapter **out, Error *err) {
    Adapter *a = lora_new(1, 1, "", err);
    if (!a) return err ? err->code : DRPO_E_MEMORY;
    a->rank = 0;
    const int code = fill(from, a, err);
    if (code < 0) {
        lora_free(a);
        return code;
    }
    *out = a;
    return 0;
}

int full_new(Pipeline *p, Adapter **out, Error *err) { return full_of(p->unet_weights, out, err); }

bool full_is_in(const char *folder) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, full_file) < (int)sizeof path && file_exists(path);
}

static int write_config(const Pipeline *p, const char *path, Error *err) {
    const char *document, *where;
    json_t *root = NULL;
    TRY(model_document(p->files, "unet/config.json", &document, err));
    TRY(document_load(document, &root, &where, err));
    int code = json_save_path(path, root, err);
    json_decref(root);
    return code;
}

int full_write_file(const Adapter *a, const char *path, Error *err) {
    if (!lora_finite(a))
        return fail(err, DRPO_E_NUMERIC, "%s: a trained weight is not finite; nothing is written", path);
    const size_t n = weights_count(a->full);
    SafeTensor *tensor = calloc(n + 1, sizeof *tensor);
    if (!tensor) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < n; i++) tensor[i] = *weights_at(a->full, i);
    const int code = safetensors_write(path, tensor, n, NULL, 0, err);
    free(tensor);
    return code;
}

int full_write(const Adapter *a, const Pipeline *p, const char *folder, Error *err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, full_file) >= (int)sizeof path)
        return fail(err, DRPO_E_INPUT, "%s: the path is too long", folder);
    char place[PATH_MAX];
    snprintf(place, sizeof place, "%s/unet", folder);
    TRY(dir_make(place, err));
    TRY(full_write_file(a, path, err));
    snprintf(place, sizeof place, "%s/unet/config.json", folder);
    return write_config(p, place, err);
}

static int take_values(const SafeFile *f, Adapter *a, Error *err) {
    if (safetensors_count(f) != weights_count(a->full))
        return fail(err, DRPO_E_INPUT, "%s: holds %zu tensors, the model's UNet has %zu", safetensors_path(f),
                    safetensors_count(f), weights_count(a->full));
    float *at = a->values;
    for (size_t i = 0; i < weights_count(a->full); i++) {
        const SafeTensor *own = weights_at(a->full, i), *t = safetensors_find(f, own->name);
        if (!t || !shape_equal(shape_of(t), shape_of(own)))
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is missing or has another shape than the model's",
                        safetensors_path(f), own->name);
        const size_t n = (size_t)shape_count(shape_of(own));
        dtype_to_f32(t->dtype, t->data, 0, n, at);
        at += n;
    }
    return 0;
}

int full_read(Pipeline *p, const char *folder, Adapter **out, Error *err) {
    char path[PATH_MAX];
    SafeFile *f = NULL;
    Adapter *a = NULL;
    if (snprintf(path, sizeof path, "%s/%s", folder, full_file) >= (int)sizeof path)
        return fail(err, DRPO_E_INPUT, "%s: the path is too long", folder);
    TRY(safetensors_open(path, &f, err));
    int code = full_new(p, &a, err);
    if (code == 0) code = take_values(f, a, err);
    safetensors_close(f);
    if (code < 0) {
        lora_free(a);
        return code;
    }
    *out = a;
    return 0;
}
