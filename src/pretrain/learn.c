/* Learn: one loop each for the autoencoder and the text encoder. See learn.h. */
#include "pretrain/learn.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "model/component_config.h"
#include "model/full_weights.h"
#include "model/pipeline.h"
#include "pretrain/autoencoder.h"
#include "pretrain/text.h"

enum { VAE_BATCH = 16, TEXT_BATCH = 128 };
static const float RATE = 2e-3f;

const char *const vae_files[2] = {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"};
const char *const text_files[2] = {"text_encoder/config.json", "text_encoder/model.safetensors"};

/* "vae/config.json" -> FOLDER/config.json */
static char *file_in(const Pretraining *p, const char *folder, const char *file) {
    return path_join(p->arena, folder, strchr(file, '/') + 1);
}

static int save(const Pretraining *p, const Adapter *weights, const char *folder, const char *file, Error *err) {
    const char *path = file_in(p, folder, file);
    return path ? full_write_file(weights, path, err) : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* What both loops do between two updates. */
static int go_on(const Pretraining *p, const char *what, const Part *part, double loss, double start, Error *err) {
    if (!isfinite(loss)) return fail(err, DRPO_E_NUMERIC, "%s: the loss is not finite", what);
    part_progress(p->job, what, part, loss, clock_seconds() - start);
    if (!job_cancelled(p->job)) return 0;
    return fail(err, DRPO_E_CANCELLED, "stopped; the same command begins the %s anew", what);
}

typedef struct Source {
    Pipeline *pipeline;
    Captions captions;
    PartOptions options;
} Source;

static int open_source(const Pretraining *p, OptionId steps, int batch, Source *s, Error *err) {
    const Config *c = p->job->config;
    s->options = (PartOptions){.seed = (uint64_t)config_int(c, OPT_SEED),
                               .threads = (int)config_int(c, OPT_THREADS),
                               .steps = (int)config_int(c, steps),
                               .batch = batch,
                               .lr = RATE};
    TRY(pipeline_open(p->base, &s->pipeline, err));
    return captions_open(&s->captions, p->captions, s->options.seed, err);
}

static void close_source(Source *s) {
    captions_close(&s->captions);
    pipeline_free(s->pipeline);
}

/* ---- the autoencoder ---- */
static int autoencoder_loop(const Pretraining *p, const Source *s, Autoencoder *a, Error *err) {
    const double start = clock_seconds();
    for (long step = 0; step < s->options.steps; step++) {
        double loss = NAN;
        TRY(autoencoder_draw(a, &s->captions, step, err));
        TRY(autoencoder_learn(a, &loss, err));
        TRY(part_update(&a->part, err));
        TRY(go_on(p, "autoencoder", &a->part, loss, start, err));
    }
    return 0;
}

/* The embedded one's config with a scaling factor of its own. */
static int write_vae_config(const Pretraining *p, const char *folder, double scaling, Error *err) {
    const char *from = path_join(p->arena, p->base, vae_files[0]), *to = file_in(p, folder, vae_files[0]);
    const char *where;
    json_t *root = NULL;
    if (!from || !to) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(document_load(from, &root, &where, err));
    int code = json_object_set_new(root, "scaling_factor", json_real(round(scaling * 1e5) / 1e5)) == 0
                   ? json_save_path(to, root, err)
                   : fail(err, DRPO_E_MEMORY, "out of memory");
    json_decref(root);
    return code;
}

static int autoencoder_finish(const Pretraining *p, const Source *s, Autoencoder *a, const char *folder, Error *err) {
    double scaling, right;
    TRY(autoencoder_judge(a, &s->captions, &scaling, &right, err));
    log_info(&p->job->log, "autoencoder: the verifier finds %.1f%% of new scenes right after it; scaling factor %.5f",
             100 * right, scaling);
    TRY(write_vae_config(p, folder, scaling, err));
    return save(p, a->part.weights, folder, vae_files[1], err);
}

int learn_autoencoder(Pretraining *p, const char *folder, Error *err) {
    Source s = {0};
    Autoencoder a = {0};
    int code = open_source(p, OPT_PRETRAIN_VAE, VAE_BATCH, &s, err);
    if (code >= 0) code = autoencoder_open(&a, &s.pipeline->vae, s.pipeline->vae_weights, &s.options, err);
    if (code >= 0) code = autoencoder_loop(p, &s, &a, err);
    if (code >= 0) code = autoencoder_finish(p, &s, &a, folder, err);
    autoencoder_close(&a);
    close_source(&s);
    return code;
}

/* ---- the text encoder ---- */
static int text_loop(const Pretraining *p, const Source *s, TextTraining *t, Error *err) {
    const double start = clock_seconds();
    double loss = NAN, right = 0, mean = 0;
    for (long step = 0; step < s->options.steps; step++) {
        TRY(text_training_draw(t, &s->captions, step, err));
        TRY(text_training_learn(t, &loss, &right, err));
        TRY(part_update(&t->part, err));
        mean += .1 * (right - mean);
        TRY(go_on(p, "text encoder", &t->part, loss, start, err));
    }
    log_info(&p->job->log, "text encoder: all that a caption says is read off its last state for %.1f%%", 100 * mean);
    return 0;
}

static int text_finish(Pretraining *p, const TextTraining *t, const char *folder, Error *err) {
    const char *from = path_join(p->arena, p->base, "text_encoder");
    if (!from) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(folder_copy(p, from, folder, strchr(text_files[0], '/') + 1, err));
    return save(p, t->part.weights, folder, text_files[1], err);
}

int learn_text(Pretraining *p, const char *folder, Error *err) {
    Source s = {0};
    TextTraining t = {0};
    int code = open_source(p, OPT_PRETRAIN_TEXT, TEXT_BATCH, &s, err);
    if (code >= 0) code = text_training_open(&t, &s.pipeline->text, &s.options, err);
    if (code >= 0) code = text_loop(p, &s, &t, err);
    if (code >= 0) code = text_finish(p, &t, folder, err);
    text_training_close(&t);
    close_source(&s);
    return code;
}
