/* Reading LoRA files of any common layout into an Adapter. Nothing is skipped: a key that fits no module of the network
 * is an error, because an adapter that is half applied looks like one that works badly.
 *
 * The strength of a pair is alpha/rank. Where alpha stands depends on the layout: PEFT keeps it in adapter_config.json,
 * kohya in a tensor per module, diffusers in the header's "lora_adapter_metadata" or nowhere (then alpha = rank). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/lora_private.h"

typedef struct Slot {
    const SafeTensor *part[LORA_PARTS];
} Slot;

typedef struct Reader {
    const Adapter *known;
    Arena *arena;
    SafeFile *file;
    json_t *config;     /* PEFT settings, or NULL */
    const char *where;  /* of the settings, for messages */
    const char *prefix; /* of their keys: "" or "unet." */
    LoraForms *forms;
    Slot *slot; /* [known->n_pair] */
    float scale;
    Error *err;
    bool folder; /* the path names a PEFT folder, which must hold adapter_config.json */
} Reader;

/* ---- where the file and its settings are ---- */

static int find_file(Reader *r, const char *path, const char **file) {
    static const char *const names[] = {"adapter_model.safetensors", "pytorch_lora_weights.safetensors"};
    *file = path;
    r->folder = dir_exists(path);
    if (!r->folder) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *file = path_join(r->arena, path, names[i]);
        if (!*file) return fail(r->err, DRPO_E_MEMORY, "%s: out of memory", path);
        if (file_exists(*file)) return 0;
    }
    return fail(r->err, DRPO_E_INPUT, "%s: neither %s nor %s in this folder", path, names[0], names[1]);
}

static const char *beside(Reader *r, const char *file, const char *name) {
    const char *slash = strrchr(file, '/');
    if (!slash) return name;
    return arena_printf(r->arena, "%.*s/%s", (int)(slash - file), file, name);
}

/* PEFT's alpha stands in the file beside the weights; a bare file of PEFT keys has alpha = rank, as everywhere else
 * that none is told. */
static int find_settings(Reader *r, const char *file) {
    bool peft = safetensors_count(r->file) > 0 && strncmp(safetensors_at(r->file, 0)->name, "base_model.", 11) == 0;
    const char *text = safetensors_metadata(r->file, "lora_adapter_metadata");
    r->prefix = "";
    if (peft) {
        r->where = beside(r, file, "adapter_config.json");
        if (!r->where) return fail(r->err, DRPO_E_MEMORY, "%s: out of memory", file);
        if (!r->folder && !file_exists(r->where)) return 0;
        return json_load_path(r->where, &r->config, r->err);
    }
    if (!text) return 0;
    r->where = arena_printf(r->arena, "%s: lora_adapter_metadata", file);
    if (!r->where) return fail(r->err, DRPO_E_MEMORY, "%s: out of memory", file);
    r->prefix = "unet.";
    TRY(json_load_text(r->where, text, strlen(text), &r->config, r->err));
    if (!json_is_object(r->config)) return fail(r->err, DRPO_E_INPUT, "%s is not a JSON object", r->where);
    return 0;
}

/* ---- PEFT settings ---- */

static const json_t *setting(const Reader *r, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", r->prefix, key);
    return json_object_get(r->config, name);
}

static bool is_unset(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

static int check_settings(const Reader *r) {
    static const char *const unsupported[] = {
        "use_dora",          "fan_in_fan_out", "modules_to_save", "layer_replication", "trainable_token_indices",
        "target_parameters", "lora_bias",      "use_qalora"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_unset(setting(r, unsupported[i])))
            return fail(r->err, DRPO_E_INPUT, "%s: %s is set; only plain LoRA is supported", r->where, unsupported[i]);
    const char *type = json_string_value(setting(r, "peft_type")), *bias = json_string_value(setting(r, "bias"));
    if (type && strcmp(type, "LORA") != 0)
        return fail(r->err, DRPO_E_INPUT, "%s: peft_type is '%s'; only LORA is supported", r->where, type);
    if (bias && strcmp(bias, "none") != 0)
        return fail(r->err, DRPO_E_INPUT, "%s: bias is '%s'; only 'none' is supported", r->where, bias);
    if (!json_is_number(setting(r, "r")) || !json_is_number(setting(r, "lora_alpha")))
        return fail(r->err, DRPO_E_INPUT, "%s: %sr and %slora_alpha must be numbers", r->where, r->prefix, r->prefix);
    return 0;
}

/* Pattern keys are module names or their ends (PEFT reads them as regular expressions; "^" anchors). */
static bool pattern_fits(const char *pattern, const char *module) {
    if (pattern[0] == '^') return strcmp(pattern + 1, module) == 0;
    return lora_names_module(pattern, module);
}

static int pattern_number(const Reader *r, const char *table, const char *fallback, const char *module, double *out) {
    const char *key;
    json_t *value;
    *out = json_number_value(setting(r, fallback));
    json_object_foreach((json_t *)setting(r, table), key, value) {
        if (strpbrk(key, "*+?[](){}|\\$"))
            return fail(r->err, DRPO_E_INPUT, "%s: %s has the regular expression '%s'; module names are supported",
                        r->where, table, key);
        if (!pattern_fits(key, module)) continue;
        *out = json_number_value(value);
        break;
    }
    return 0;
}

/* ---- tensors ---- */

static int unknown_key(const Reader *r, const char *key) {
    static const char *const others[] = {"hada_", "lokr_", "lora_magnitude", "dora_scale", "lora_mid", "oft_", "boft_"};
    const char *what = "names no linear layer of this model's UNet; is the adapter for another model?";
    if (strncmp(key, "lora_te", 7) == 0 || strncmp(key, "text_encoder", 12) == 0)
        what = "belongs to a text encoder; only UNet adapters are supported";
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(key, others[i])) what = "belongs to LoHa, LoKr, DoRA, OFT or a convolution; only plain LoRA is read";
    return fail(r->err, DRPO_E_INPUT, "%s: key '%s' %s", safetensors_path(r->file), key, what);
}

static int sort_tensors(Reader *r) {
    for (size_t i = 0; i < safetensors_count(r->file); i++) {
        const SafeTensor *t = safetensors_at(r->file, i);
        char module[LORA_NAME_LENGTH];
        LoraPart part;
        int at = lora_key_parse(t->name, module, &part) ? lora_forms_find(r->forms, r->known->n_pair, module) : -1;
        if (at < 0) return unknown_key(r, t->name);
        if (r->slot[at].part[part])
            return fail(r->err, DRPO_E_INPUT, "%s: keys '%s' and '%s' are for the same layer",
                        safetensors_path(r->file), r->slot[at].part[part]->name, t->name);
        r->slot[at].part[part] = t;
    }
    return 0;
}

/* A linear weight, maybe stored as a 1x1 convolution. */
static bool is_matrix(const SafeTensor *t) {
    bool matrix = t->rank == 2 || (t->rank == 4 && t->dim[2] == 1 && t->dim[3] == 1);
    return matrix && (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 || t->dtype == DT_F64);
}

static int check_pair(const Reader *r, const Slot *slot, const LoraPair *known) {
    const SafeTensor *a = slot->part[LORA_DOWN], *b = slot->part[LORA_UP];
    const char *path = safetensors_path(r->file);
    if (!a || !b)
        return fail(r->err, DRPO_E_INPUT, "%s: module '%s' has only half of its pair (%s)", path, known->module,
                    a   ? a->name
                    : b ? b->name
                        : "alpha");
    if (!is_matrix(a) || !is_matrix(b))
        return fail(r->err, DRPO_E_INPUT, "%s: '%s' and '%s' must be matrices of floats", path, a->name, b->name);
    if (a->dim[1] != known->in || b->dim[0] != known->out || a->dim[0] != b->dim[1] || a->dim[0] < 1 ||
        a->dim[0] > 1 << 20)
        return fail(r->err, DRPO_E_INPUT,
                    "%s: module '%s' has A [%lld, %lld] and B [%lld, %lld]; the layer needs [r, %lld] and [%lld, r]",
                    path, known->module, (long long)a->dim[0], (long long)a->dim[1], (long long)b->dim[0],
                    (long long)b->dim[1], (long long)known->in, (long long)known->out);
    return 0;
}

static int pair_scale(const Reader *r, const Slot *slot, const char *module, double *scale) {
    double rank = (double)slot->part[LORA_DOWN]->dim[0], stated = rank, alpha = rank;
    const SafeTensor *t = slot->part[LORA_ALPHA];
    bool root = false;
    if (t) {
        float value = 0;
        if (t->bytes != dtype_bytes(t->dtype) || t->dtype > DT_F64)
            return fail(r->err, DRPO_E_INPUT, "%s: '%s' must be one float", safetensors_path(r->file), t->name);
        dtype_to_f32(t->dtype, t->data, 0, 1, &value);
        alpha = value;
    } else if (r->config) {
        TRY(pattern_number(r, "rank_pattern", "r", module, &stated));
        TRY(pattern_number(r, "alpha_pattern", "lora_alpha", module, &alpha));
        root = json_is_true(setting(r, "use_rslora"));
    }
    if (stated != rank)
        return fail(r->err, DRPO_E_INPUT, "%s: module '%s' should have rank %g, its tensors have %g", r->where, module,
                    stated, rank);
    *scale = alpha / (root ? sqrt(rank) : rank) * r->scale;
    if (!isfinite(*scale))
        return fail(r->err, DRPO_E_INPUT, "%s: alpha of module '%s' is not finite", safetensors_path(r->file), module);
    return 0;
}

/* ---- the adapter ---- */

static int register_pairs(const Reader *r, Adapter *a) {
    for (int i = 0; i < r->known->n_pair; i++) {
        const LoraPair *known = &r->known->pair[i];
        const Slot *slot = &r->slot[i];
        if (!slot->part[LORA_DOWN] && !slot->part[LORA_UP] && !slot->part[LORA_ALPHA]) continue;
        double scale = 0;
        TRY(check_pair(r, slot, known));
        TRY(pair_scale(r, slot, known->module, &scale));
        int rank = (int)slot->part[LORA_DOWN]->dim[0];
        if (a->n_pair == 0) {
            a->rank = rank;
            a->alpha = (float)(scale * rank);
        }
        TRY(lora_register_pair(a, known->module, known->in, known->out, rank, (float)scale, r->err));
    }
    if (a->n_pair == 0) return fail(r->err, DRPO_E_INPUT, "%s: holds no LoRA tensors", safetensors_path(r->file));
    return lora_allocate(a, r->err);
}

static int fill_values(const Reader *r, Adapter *a) {
    for (int i = 0, next = 0; next < a->n_pair && i < r->known->n_pair; i++) {
        const SafeTensor *down = r->slot[i].part[LORA_DOWN], *up = r->slot[i].part[LORA_UP];
        if (!down) continue;
        LoraPair *p = &a->pair[next++];
        dtype_to_f32(down->dtype, down->data, 0, (size_t)shape_count(p->a.shape), a->values + p->offset_a);
        dtype_to_f32(up->dtype, up->data, 0, (size_t)shape_count(p->b.shape), a->values + p->offset_b);
    }
    if (!lora_finite(a))
        return fail(r->err, DRPO_E_INPUT, "%s: holds values that are not finite; the run that wrote it has diverged",
                    safetensors_path(r->file));
    return 0;
}

static int read_into(Reader *r, const char *path, Adapter *a) {
    const char *file;
    TRY(find_file(r, path, &file));
    TRY(safetensors_open(file, &r->file, r->err));
    TRY(find_settings(r, file));
    if (r->config) TRY(check_settings(r));
    r->forms = lora_forms(r->known, r->arena);
    r->slot = arena_alloc(r->arena, ((size_t)r->known->n_pair + 1) * sizeof *r->slot);
    if (!r->forms || !r->slot) return fail(r->err, DRPO_E_MEMORY, "%s: out of memory", path);
    TRY(sort_tensors(r));
    TRY(register_pairs(r, a));
    return fill_values(r, a);
}

int lora_read(const char *path, float scale, const Adapter *known, Adapter **out, Error *err) {
    Error local = {0};
    Reader r = {.known = known, .scale = scale, .err = err ? err : &local};
    *out = NULL;
    Adapter *a = lora_new(1, 1, NULL, r.err);
    r.arena = a ? arena_new() : NULL;
    int code = r.arena ? read_into(&r, path, a) : fail(r.err, DRPO_E_MEMORY, "%s: out of memory", path);
    json_decref(r.config);
    safetensors_close(r.file);
    arena_free(r.arena);
    if (code < 0)
        lora_free(a);
    else
        *out = a;
    return code;
}
