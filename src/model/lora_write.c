/* Writing LoRA files: PEFT folder, diffusers file, kohya file (ComfyUI, A1111, Forge, stable-diffusion.cpp). What was
 * written is read back and compared before the call succeeds.
 *
 * No file carries a date: two runs with the same seed give the same bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/lora_private.h"

enum { MAX_METADATA = 32 };

typedef struct Writer {
    const Adapter *a;
    const LoraMeta *meta; /* never NULL */
    Arena *arena;
    SafeTensor *tensor; /* [3 n_pair] */
    size_t n_tensor;
    TextPair metadata[MAX_METADATA];
    size_t n_metadata;
    Error *err;
} Writer;

static int out_of_memory(const Writer *w) { return fail(w->err, DRPO_E_MEMORY, "LoRA: out of memory while writing"); }

/* The user thinks in alpha; 16/16*16 must not become 15.999999. */
static double pair_alpha(const Adapter *a, const LoraPair *p) {
    double alpha = (double)p->scale * p->rank;
    if (fabs(alpha - (double)a->alpha) <= 1e-6 * fabs((double)a->alpha)) return (double)a->alpha;
    return fabs(alpha - round(alpha)) <= 1e-6 * fabs(alpha) ? round(alpha) : alpha;
}

static json_t *number(double v) { return v == floor(v) && fabs(v) < 1e15 ? json_integer((json_int_t)v) : json_real(v); }

/* ---- tensors ---- */

static void add_matrix(Writer *w, const char *name, const Param *p) {
    w->tensor[w->n_tensor++] = (SafeTensor){.name = name,
                                            .dtype = DT_F32,
                                            .rank = 2,
                                            .dim = {p->shape.dim[0], p->shape.dim[1]},
                                            .data = p->data,
                                            .bytes = (size_t)shape_count(p->shape) * sizeof(float)};
}

static int dotted_tensors(Writer *w, const char *prefix) {
    for (int i = 0; i < w->a->n_pair; i++) {
        const LoraPair *p = &w->a->pair[i];
        const char *down = arena_printf(w->arena, "%s%s.lora_A.weight", prefix, p->module);
        const char *up = arena_printf(w->arena, "%s%s.lora_B.weight", prefix, p->module);
        if (!down || !up) return out_of_memory(w);
        add_matrix(w, down, &p->a);
        add_matrix(w, up, &p->b);
    }
    return 0;
}

static int kohya_tensors(Writer *w) {
    LoraForms *forms = lora_forms(w->a, w->arena);
    float *alpha = arena_alloc(w->arena, (size_t)w->a->n_pair * sizeof *alpha);
    if (!forms || !alpha) return out_of_memory(w);
    for (int i = 0; i < w->a->n_pair; i++) {
        const LoraPair *p = &w->a->pair[i];
        const char *down = arena_printf(w->arena, "lora_unet_%s.lora_down.weight", forms[i].plain);
        const char *up = arena_printf(w->arena, "lora_unet_%s.lora_up.weight", forms[i].plain);
        const char *scalar = arena_printf(w->arena, "lora_unet_%s.alpha", forms[i].plain);
        if (!down || !up || !scalar) return out_of_memory(w);
        alpha[i] = (float)pair_alpha(w->a, p);
        add_matrix(w, down, &p->a);
        add_matrix(w, up, &p->b);
        w->tensor[w->n_tensor++] =
            (SafeTensor){.name = scalar, .dtype = DT_F32, .data = &alpha[i], .bytes = sizeof(float)};
    }
    return 0;
}

/* ---- settings ---- */

static json_t *target_modules(const Adapter *a) {
    json_t *list = json_array();
    for (char **t = a->targets; *t; t++) json_array_append_new(list, json_string(*t));
    for (int i = 0; !a->targets[0] && i < a->n_pair; i++) json_array_append_new(list, json_string(a->pair[i].module));
    return list;
}

/* What a LoraConfig needs to rebuild the adapter; keys get `prefix`. */
static json_t *peft_settings(const Writer *w, const char *prefix) {
    const Adapter *a = w->a;
    json_t *ranks = json_object(), *alphas = json_object();
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        if (p->rank != a->rank) json_object_set_new(ranks, p->module, json_integer(p->rank));
        if (pair_alpha(a, p) != (double)a->alpha) json_object_set_new(alphas, p->module, number(pair_alpha(a, p)));
    }
    struct {
        const char *key;
        json_t *value;
    } entry[] = {{"alpha_pattern", alphas},
                 {"auto_mapping", json_pack("{s:s, s:s}", "base_model_class", "UNet2DConditionModel", "parent_library",
                                            "diffusers.models.unets.unet_2d_condition")},
                 {"base_model_name_or_path", w->meta->base_model ? json_string(w->meta->base_model) : json_null()},
                 {"bias", json_string("none")},
                 {"fan_in_fan_out", json_false()},
                 {"inference_mode", json_true()},
                 {"init_lora_weights", json_true()},
                 {"lora_alpha", number((double)a->alpha)},
                 {"lora_dropout", json_real(round(1e6 * (double)a->dropout) / 1e6)},
                 {"modules_to_save", json_null()},
                 {"peft_type", json_string("LORA")},
                 {"r", json_integer(a->rank)},
                 {"rank_pattern", ranks},
                 {"target_modules", target_modules(a)},
                 {"task_type", json_null()},
                 {"use_dora", json_false()},
                 {"use_rslora", json_false()}};
    json_t *root = json_object();
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", prefix, entry[i].key);
        json_object_set_new(root, key, entry[i].value);
    }
    return root;
}

static void note(Writer *w, const char *key, const char *value) {
    if (value && w->n_metadata < MAX_METADATA) w->metadata[w->n_metadata++] = (TextPair){key, value};
}

static int diffusers_metadata(Writer *w) {
    json_t *settings = peft_settings(w, "unet.");
    char *text = settings ? json_dumps(settings, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    const char *kept = text ? arena_strdup(w->arena, text) : NULL;
    free(text);
    json_decref(settings);
    if (!kept) return out_of_memory(w);
    note(w, "lora_adapter_metadata", kept);
    return 0;
}

static bool is_sdxl(const LoraMeta *m) { return m->architecture && strstr(m->architecture, "xl"); }

static void modelspec(Writer *w) {
    const LoraMeta *m = w->meta;
    note(w, "modelspec.sai_model_spec", "1.0.0");
    note(w, "modelspec.architecture", m->architecture);
    note(w, "modelspec.implementation", "diffusers");
    note(w, "modelspec.title", m->title);
    note(w, "modelspec.description", m->comment);
    note(w, "modelspec.prediction_type", "epsilon");
    if (m->resolution) note(w, "modelspec.resolution", arena_printf(w->arena, "%dx%d", m->resolution, m->resolution));
}

/* UIs list an adapter only beside models of its base version. */
static void kohya_metadata(Writer *w) {
    const LoraMeta *m = w->meta;
    note(w, "ss_network_module", "networks.lora");
    note(w, "ss_network_dim", arena_printf(w->arena, "%d", w->a->rank));
    note(w, "ss_network_alpha", arena_printf(w->arena, "%.9g", (double)w->a->alpha));
    if (m->architecture) note(w, "ss_base_model_version", is_sdxl(m) ? "sdxl_base_v1-0" : "sd_v2");
    if (m->architecture && !is_sdxl(m)) note(w, "ss_v2", "True");
    note(w, "ss_sd_model_name", m->base_model);
    note(w, "ss_output_name", m->title);
    note(w, "ss_training_comment", m->comment);
    note(w, "ss_steps", arena_printf(w->arena, "%ld", m->steps));
    note(w, "ss_seed", arena_printf(w->arena, "%llu", (unsigned long long)m->seed));
    note(w, "ss_learning_rate", arena_printf(w->arena, "%g", (double)m->learning_rate));
    note(w, "ss_optimizer", "AdamW");
    note(w, "ss_mixed_precision", "no");
    if (m->resolution) note(w, "ss_resolution", arena_printf(w->arena, "(%d, %d)", m->resolution, m->resolution));
}

/* ---- files ---- */

static int write_tensors(Writer *w, const char *path) {
    note(w, "format", "pt");
    note(w, "drpo.version", DRPO_VERSION);
    note(w, "drpo.command", w->meta->command);
    if (arena_failed(w->arena)) return out_of_memory(w);
    return safetensors_write(path, w->tensor, w->n_tensor, w->metadata, w->n_metadata, w->err);
}

static int write_peft_files(Writer *w, const char *folder) {
    const char *tensors = path_join(w->arena, folder, "adapter_model.safetensors");
    const char *config = path_join(w->arena, folder, "adapter_config.json");
    json_t *settings = peft_settings(w, "");
    int code = tensors && config && settings ? dotted_tensors(w, "base_model.model.") : out_of_memory(w);
    if (code == 0) code = write_tensors(w, tensors);
    if (code == 0) code = json_save_path(config, settings, w->err);
    json_decref(settings);
    return code;
}

/* A new folder appears complete or not at all; in one that exists each file is replaced as a whole. */
static int write_peft(Writer *w, const char *path) {
    if (dir_exists(path)) return write_peft_files(w, path);
    const char *tmp = arena_printf(w->arena, "%s.tmp.%ld", path, (long)getpid());
    if (!tmp) return out_of_memory(w);
    TRY(dir_make(tmp, w->err));
    int code = write_peft_files(w, tmp);
    if (code == 0) code = dir_commit(tmp, path, w->err);
    if (code < 0) dir_remove(tmp, NULL);
    return code;
}

static int write_format(Writer *w, LoraFormat format, const char *path) {
    if (format == LORA_PEFT) return write_peft(w, path);
    if (format == LORA_DIFFUSERS) {
        TRY(dotted_tensors(w, "unet."));
        TRY(diffusers_metadata(w));
    } else {
        TRY(kohya_tensors(w));
        kohya_metadata(w);
    }
    modelspec(w);
    return write_tensors(w, path);
}

static int compare(const Adapter *a, const Adapter *b, const char *path, Error *err) {
    bool same = a->n_pair == b->n_pair && a->count == b->count;
    for (int i = 0; same && i < a->n_pair; i++)
        same = strcmp(a->pair[i].module, b->pair[i].module) == 0 &&
               fabsf(a->pair[i].scale - b->pair[i].scale) <= 1e-6f * fabsf(a->pair[i].scale);
    same = same && memcmp(a->values, b->values, a->count * sizeof *a->values) == 0;
    return same ? 0 : fail(err, DRPO_E_IO, "%s: reads back as another adapter; is the disk damaged?", path);
}

static int read_back(const Adapter *a, const char *path, Error *err) {
    Adapter *again;
    TRY(lora_read(path, 1, a, &again, err));
    int code = compare(a, again, path, err);
    lora_free(again);
    return code;
}

int lora_write(const Adapter *a, LoraFormat format, const char *path, const LoraMeta *meta, Error *err) {
    if (!lora_finite(a))
        return fail(err, DRPO_E_NUMERIC, "%s: not written, the adapter holds values that are not finite", path);
    LoraMeta none = {0};
    Writer w = {.a = a, .meta = meta ? meta : &none, .arena = arena_new(), .err = err};
    if (!w.arena) return out_of_memory(&w);
    w.tensor = arena_alloc(w.arena, 3 * (size_t)a->n_pair * sizeof *w.tensor);
    int code = w.tensor ? write_format(&w, format, path) : out_of_memory(&w);
    arena_free(w.arena);
    return code < 0 ? code : read_back(a, path, err);
}
