/* The verb `export`: an adapter in another program's format, or merged into its model. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/checkpoint_merge.h"
#include "train/model_card.h"
#include "train/session.h"

enum { FORMAT_PEFT, FORMAT_DIFFUSERS, FORMAT_KOHYA, FORMAT_MERGED };

typedef struct Export {
    const Job *job;
    Session session;
    Adapter *adapter;
    const char *from, *out;
    int format;
    bool folder; /* what is written is one */
} Export;

static int open_export(Export *e, Error *err) {
    const Config *c = e->job->config;
    TRY(config_check(c, err));
    e->format = config_choice(c, OPT_FORMAT);
    e->session.arena = arena_new();
    Arena *a = e->session.arena;
    if (!a) return fail(err, DRPO_E_MEMORY, "out of memory");
    const char *spec = config_item(c, OPT_EXPORTED, 0);
    ModelChoice model;
    TRY(session_model(c, spec, a, &model, err));
    TRY(pipeline_open_choice(&model, &e->session.pipeline, err));
    TRY(adapter_open(e->session.pipeline, spec, &e->adapter, err));
    if (e->adapter->full)
        return fail(err, DRPO_E_USAGE,
                    "%s: holds a whole UNet in diffusers' form already (its unet/ folder); only a LoRA is exported",
                    spec);
    e->folder = e->format == FORMAT_PEFT || (e->format == FORMAT_MERGED && model_is_folder(e->session.pipeline->files));
    float scale;
    e->from = adapter_split(spec, &scale, a);
    return e->from ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* A copy of the model inside the model would copy itself; a merged file never takes the place of its original. */
static int check_outside(const Export *e, const char *parent, Error *err) {
    char inside[PATH_MAX], model[PATH_MAX];
    if (e->format == FORMAT_MERGED && !e->folder && realpath(e->out, inside) &&
        realpath(e->session.pipeline->folder, model) && strcmp(inside, model) == 0)
        return fail(err, DRPO_E_USAGE, "--out %s: is the model itself; choose another name", e->out);
    if (e->format != FORMAT_MERGED || !e->folder || !realpath(parent, inside) ||
        !realpath(e->session.pipeline->folder, model))
        return 0;
    size_t length = strlen(model);
    if (strncmp(inside, model, length) != 0 || (inside[length] && inside[length] != '/')) return 0;
    return fail(err, DRPO_E_USAGE, "--out %s: lies in the model's own folder; choose another place", e->out);
}

static int choose_out(Export *e, Error *err) {
    static const char *const beside[] = {"export/peft", "export/pytorch_lora_weights.safetensors",
                                         "export/lora_kohya.safetensors", "export/merged"};
    const char *name = e->format == FORMAT_MERGED && !e->folder ? "export/merged.safetensors" : beside[e->format];
    Arena *a = e->session.arena;
    const char *given = config_text(e->job->config, OPT_EXPORT_OUT);
    const char *folder = e->from;
    if (!dir_exists(folder)) {
        const char *slash = strrchr(folder, '/');
        folder = slash ? arena_printf(a, "%.*s", (int)(slash - folder), folder) : ".";
    }
    e->out = given[0] ? given : folder ? path_join(a, folder, name) : NULL;
    if (!e->out) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (e->folder && (dir_exists(e->out) || file_exists(e->out)))
        return fail(err, DRPO_E_USAGE, "--out %s: exists already", e->out);
    if (!e->folder && dir_exists(e->out))
        return fail(err, DRPO_E_USAGE, "--out %s: is a folder; name a .safetensors file", e->out);
    const char *slash = strrchr(e->out, '/');
    const char *parent = slash && slash != e->out ? arena_printf(a, "%.*s", (int)(slash - e->out), e->out) : NULL;
    if (parent) TRY(dir_make(parent, err));
    return check_outside(e, parent ? parent : slash ? "/" : ".", err);
}

static int copy_file(const char *from, const char *to, Error *err) {
    MappedFile f;
    TRY(file_map(from, &f, err));
    int code = file_write_atomic(to, f.data, f.size, err);
    file_unmap(&f);
    return code;
}

/* Copies a folder; files named *.safetensors of the folder `except` are left out. */
static int copy_tree(const char *from, const char *to, const char *except, Arena *a, Error *err) {
    struct dirent **entry = NULL;
    TRY(dir_make(to, err));
    int n = scandir(from, &entry, NULL, alphasort), code = 0;
    if (n < 0) return fail_errno(err, DRPO_E_IO, "%s: cannot read the folder", from);
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name, *source = path_join(a, from, name), *target = path_join(a, to, name);
        bool left_out = strcmp(from, except) == 0 && strstr(name, ".safetensors");
        if (!source || !target) code = fail(err, DRPO_E_MEMORY, "out of memory");
        if (code == 0 && name[0] != '.' && dir_exists(source)) code = copy_tree(source, target, except, a, err);
        if (code == 0 && name[0] != '.' && !left_out && file_exists(source)) code = copy_file(source, target, err);
        free(entry[i]);
    }
    free(entry);
    return code;
}

static int write_merged(Export *e, const char *tmp, Error *err) {
    const Pipeline *p = e->session.pipeline;
    Arena *a = e->session.arena;
    const char *unet = path_join(a, p->folder, "unet"),
               *file = arena_printf(a, "%s/unet/diffusion_pytorch_model.safetensors", tmp);
    if (!unet || !file) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(copy_tree(p->folder, tmp, unet, a, err));
    TRY(lora_merge_file(p->unet_weights, e->adapter, file, err));
    return dir_commit(tmp, e->out, err);
}

static int write_adapter(Export *e, Error *err) {
    static const LoraFormat format[] = {LORA_PEFT, LORA_DIFFUSERS, LORA_KOHYA};
    const Pipeline *p = e->session.pipeline;
    LoraMeta meta = {.base_model = p->name,
                     .architecture =
                         p->unet.added_text_time ? "stable-diffusion-xl-v1-base/lora" : "stable-diffusion-v2/lora",
                     .resolution = p->latent_size * p->factor};
    return lora_write(e->adapter, format[e->format], e->out, &meta, err);
}

/* Beside the adapter; the card of a run lies in its final/. */
static int write_card(Export *e, Error *err) {
    Arena *a = e->session.arena;
    const char *slash = strrchr(e->out, '/'), *final = path_join(a, e->from, "final");
    const char *parent = slash ? arena_printf(a, "%.*s", slash == e->out ? 1 : (int)(slash - e->out), e->out) : ".";
    if (!final || !parent) return fail(err, DRPO_E_MEMORY, "out of memory");
    const CardCopy card = {.from = dir_exists(final) ? final : e->from,
                           .folder = e->folder ? e->out : parent,
                           .file = e->folder ? NULL
                                   : slash   ? slash + 1
                                             : e->out,
                           .kohya = e->format == FORMAT_KOHYA};
    bool stays;
    TRY(model_card_copy(&card, a, &stays, err));
    if (stays) log_info(&e->job->log, "%s: has a README.md; the model card was not written", card.folder);
    return 0;
}

static int export(Export *e, Error *err) {
    TRY(open_export(e, err));
    TRY(choose_out(e, err));
    if (e->format == FORMAT_MERGED && !e->folder) {
        TRY(checkpoint_merge(e->session.pipeline->folder, e->adapter, e->out, err));
    } else if (e->format == FORMAT_MERGED) {
        const char *tmp = arena_printf(e->session.arena, "%s.tmp", e->out);
        if (!tmp) return fail(err, DRPO_E_MEMORY, "out of memory");
        int code = write_merged(e, tmp, err);
        if (code < 0 && dir_exists(tmp)) dir_remove(tmp, NULL);
        if (code < 0) return code;
    } else {
        TRY(write_adapter(e, err));
        TRY(write_card(e, err));
    }
    job_result(e->job, "%s", e->out);
    return 0;
}

int verb_export(const Job *job, Error *err) {
    Export e = {.job = job};
    int code = export(&e, err);
    if (e.adapter) lora_free(e.adapter);
    session_close(&e.session);
    return code;
}
