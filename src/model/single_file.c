/* Single file: finds a checkpoint's family and gives its tensors diffusers' names and shapes. Data stays in the mapped
 * file, except for the one matrix that is stored transposed. See single_file.h. */
#include "model/single_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/advice.h"
#include "model/checkpoint_tensors.h"

enum { MAX_LEVELS = 16 };

/* ---- family ---- */

static bool has(const SafeFile *f, const char *name) { return safetensors_find(f, name) != NULL; }

static bool any_contains(const SafeFile *f, const char *word) {
    for (size_t i = 0; i < safetensors_count(f); i++)
        if (strstr(safetensors_at(f, i)->name, word)) return true;
    return false;
}

static int fail_family(const SafeFile *f, Error *err) {
    const char *path = safetensors_path(f), *what = "no checkpoint with UNet, VAE and text encoders";
    char get[ADVICE_LENGTH];
    if (any_contains(f, "lora_down") || any_contains(f, "lora_A") || any_contains(f, "lora_up"))
        return fail(err, DRPO_E_INPUT, "--model %s: is an adapter; give it with --lora, and its model with --model",
                    path);
    if (has(f, "conv_in.weight") || any_contains(f, "text_model.encoder.layers.0"))
        what = "one part of a model; give the folder that has model_index.json";
    if (any_contains(f, "cond_stage_model.transformer.text_model.")) what = "a checkpoint of Stable Diffusion 1";
    if (any_contains(f, "double_blocks.") || any_contains(f, "joint_blocks."))
        what = "a checkpoint of another family (a diffusion transformer)";
    if (has(f, "model.diffusion_model.input_blocks.0.0.weight") && !any_contains(f, "first_stage_model."))
        what = "a checkpoint without its VAE";
    return fail(err, DRPO_E_INPUT, "--model %s: is %s; supported: SD-Turbo and SDXL-Turbo; get one: %s", path, what,
                repository_advice(family_repository(FAMILY_SD_TURBO), get));
}

static int find_family(const SafeFile *f, Family *out, Error *err) {
    static const char unet[] = "model.diffusion_model.input_blocks.0.0.weight";
    static const char vae[] = "first_stage_model.decoder.conv_in.weight";
    bool one =
        has(f, "cond_stage_model.model.ln_final.weight") || has(f, "conditioner.embedders.0.model.ln_final.weight");
    bool two = has(f, "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight") &&
               has(f, "conditioner.embedders.1.model.ln_final.weight");
    bool added = has(f, "model.diffusion_model.label_emb.0.0.weight");
    if (!has(f, unet) || !has(f, vae) || !(added ? two : one)) return fail_family(f, err);
    *out = added ? FAMILY_SDXL_TURBO : FAMILY_SD_TURBO;
    return 0;
}

/* Files that people hold as models and that are something else by their name. */
static int check_kind(const char *path, Error *err) {
    static const char *const pickles[] = {".ckpt", ".pt", ".pth", ".bin"};
    char get[ADVICE_LENGTH];
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof pickles / sizeof *pickles; i++)
        if (strcmp(dot, pickles[i]) == 0)
            return fail(err, DRPO_E_INPUT,
                        "--model %s: a pickle that could run any program; safetensors are read, get them: %s", path,
                        model_advice(path, get));
    if (dot && strcmp(dot, ".gguf") == 0)
        return fail(err, DRPO_E_INPUT, "--model %s: GGUF is not read; get safetensors: %s", path,
                    model_advice(path, get));
    return 0;
}

int single_file_family(const char *path, Family *out, Error *err) {
    SafeFile *f;
    TRY(check_kind(path, err));
    TRY(weights_map(path, &f, err));
    int code = find_family(f, out, err);
    safetensors_close(f);
    return code;
}

/* ---- tensors ---- */

static int count_vae_levels(const SafeFile *f) {
    char name[CHECKPOINT_NAME];
    int levels = 0;
    for (; levels < MAX_LEVELS; levels++) {
        snprintf(name, sizeof name, "first_stage_model.decoder.up.%d.block.0.norm1.weight", levels);
        if (!has(f, name)) break;
    }
    return levels;
}

static int map_tensors(WeightsParts *parts, const char *component, const CheckpointShape *shape, Error *err) {
    const SafeFile *f = parts->file[0];
    parts->tensor = arena_alloc(parts->arena, (safetensors_count(f) * CHECKPOINT_PARTS + 1) * sizeof *parts->tensor);
    if (!parts->tensor) return fail(err, DRPO_E_MEMORY, "%s: out of memory for its list of tensors", parts->path);
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        CheckpointName to;
        if (!checkpoint_name(t->name, shape, &to))
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' belongs to no part of an SD-Turbo or SDXL-Turbo checkpoint",
                        parts->path, t->name);
        if (!to.component || strcmp(to.component, component) != 0) continue;
        TRY(checkpoint_tensors_add(parts, t, &to, err));
    }
    return 0;
}

int single_file_weights(const char *path, Family f, const char *component, int text_layers, Weights **out, Error *err) {
    *out = NULL;
    WeightsParts parts = {.arena = arena_new()};
    int code = weights_parts_map(&parts, path, err);
    if (code == 0) {
        const CheckpointShape shape = {count_vae_levels(parts.file[0]), text_layers, f == FAMILY_SDXL_TURBO};
        code = map_tensors(&parts, component, &shape, err);
    }
    return weights_from(&parts, code, out, err);
}
