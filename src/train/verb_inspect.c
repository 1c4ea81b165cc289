/* The verb `inspect`: what a file of tensors (safetensors or torch.save), model folder, adapter or run holds, in words.
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "model/full_weights.h"
#include "model/repository.h"
#include "model/single_file.h"
#include "train/run_folder.h"
#include "train/session.h"

enum { LONGEST_VALUE = 200, DIMENSIONS_TEXT = SAFE_MAX_RANK * 22 }; /* 19 digits, ", " and the end */

static const char *dimensions(const SafeTensor *t, char text[DIMENSIONS_TEXT]) {
    int n = 0;
    for (int i = 0; i < t->rank; i++)
        n += snprintf(text + n, DIMENSIONS_TEXT - (size_t)n, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    text[n] = 0;
    return text;
}

static int inspect_file(const Job *job, const char *path, Error *err) {
    SafeFile *f = NULL;
    TRY(weights_map(path, &f, err));
    size_t bytes = 0;
    Family family;
    if (single_file_family(path, &family, NULL) == 0)
        job_result(job, "# whole model in one file, in the layout of %s", family_repository(family));
    for (size_t i = 0; i < safetensors_metadata_count(f); i++) {
        TextPair pair = safetensors_metadata_at(f, i);
        bool cut = strlen(pair.value) > LONGEST_VALUE;
        job_result(job, "# %s: %.*s%s", pair.key, LONGEST_VALUE, pair.value, cut ? " ..." : "");
    }
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        char text[DIMENSIONS_TEXT];
        job_result(job, "%-5s [%s]  %s", dtype_name(t->dtype), dimensions(t, text), t->name);
        bytes += t->bytes;
    }
    job_result(job, "%zu tensors, %.1f MiB", safetensors_count(f), (double)bytes / 1048576);
    safetensors_close(f);
    return 0;
}

static int inspect_model(const Job *job, const ModelChoice *choice, Error *err) {
    Pipeline *p = NULL;
    TRY(pipeline_open_choice(choice, &p, err));
    const UnetConfig *u = &p->unet;
    char widths[128];
    int n = 0;
    for (int i = 0; i < u->blocks; i++)
        n += snprintf(widths + n, sizeof widths - (size_t)n, "%s%d", i ? ", " : "", u->channels[i]);
    job_result(job, "one-step generator, %d x %d pixels (latents %d x %d x %d)", p->latent_size * p->factor,
               p->latent_size * p->factor, p->latent_channels, p->latent_size, p->latent_size);
    job_result(job, "unet          %.1f MiB, widths %s, text width %d%s",
               (double)weights_bytes(p->unet_weights) / 1048576, widths, u->cross_attention_dim,
               u->added_text_time ? ", added text and time (SDXL)" : "");
    job_result(job, "vae           %.1f MiB, scaling %g", (double)weights_bytes(p->vae_weights) / 1048576,
               (double)p->vae.scaling_factor);
    for (int i = 0; i < p->text.count; i++) {
        const TextEncoder *e = &p->text.encoder[i];
        job_result(job, "text encoder  %.1f MiB, %d layers of width %d", (double)weights_bytes(e->weights) / 1048576,
                   e->config.layers, e->config.width);
        job_result(job, "tokenizer     %d tokens, at most %d a prompt", tokenizer_vocab(e->tokenizer), p->text.tokens);
    }
    job_result(job, "one step      x0 = %.7g z - %.7g eps(%.7g z, t = %g)", (double)p->stock.z_factor,
               (double)p->stock.eps_factor, (double)p->stock.input_scale, (double)p->stock.timestep);
    job_result(job, "unet sha256   %s", pipeline_sha256(p));
    pipeline_free(p);
    return 0;
}

static int inspect_run(const Job *job, const char *path, Arena *a, Error *err) {
    char *newest = NULL, *text = NULL;
    size_t size = 0;
    long step = run_newest_checkpoint(path, a, &newest);
    const char *config = path_join(a, path, "config.yaml"), *final = path_join(a, path, "final");
    if (!config || !final) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(file_read_text(config, 1 << 20, a, &text, &size, err));
    if (step >= 0)
        job_result(job, "run, newest checkpoint at step %ld, %s", step,
                   dir_exists(final) ? "finished" : "not finished");
    else
        job_result(job, "run without a checkpoint");
    job_result(job, "%s", text);
    return 0;
}

static int inspect_folder(const Job *job, const ModelChoice *choice, Arena *a, Error *err) {
    const char *path = choice->path;
    const char *model = path_join(a, path, "model_index.json"), *run = path_join(a, path, "config.yaml");
    if (model && file_exists(model)) return inspect_model(job, choice, err);
    if (run && file_exists(run)) return inspect_run(job, path, a, err);
    const char *adapter = adapter_locate(path, a, NULL);
    if (!adapter)
        return fail(err, DRPO_E_INPUT,
                    "%s: is no model (model_index.json), run (config.yaml) or adapter (adapter_model.safetensors)",
                    path);
    const char *file = file_exists(adapter)
                           ? adapter
                           : path_join(a, adapter, full_is_in(adapter) ? full_file : "adapter_model.safetensors");
    return file ? inspect_file(job, file, err) : fail(err, DRPO_E_MEMORY, "out of memory");
}

static int inspect(const Job *job, Arena *a, Error *err) {
    const Config *c = job->config;
    const char *name = config_item(c, OPT_INSPECTED, 0), *path = asset_find(name, a);
    ModelChoice choice;
    if (!path) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (!dir_exists(path) && !file_exists(path) && !repository_is_id(name))
        return fail(err, DRPO_E_INPUT, "%s: no such file or folder", path);
    TRY(model_find(name, config_text(c, OPT_REVISION), a, &choice, err));
    choice.variant = config_text(c, OPT_VARIANT);
    choice.tokenizer = config_text(c, OPT_TOKENIZER);
    return dir_exists(choice.path) ? inspect_folder(job, &choice, a, err) : inspect_file(job, choice.path, err);
}

int verb_inspect(const Job *job, Error *err) {
    TRY(config_check(job->config, err));
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "out of memory");
    int code = inspect(job, a, err);
    arena_free(a);
    return code;
}
