/* `drpo bench step --shape sd-turbo|sdxl-turbo`: an update of a published size without its files. The model is made
 * once of random weights (model/random_model.h) and kept; options that were not given become those of the PyTorch
 * update that drpo is compared with: one prompt, a third of the candidates on either side, a latent feature network of
 * the published shape, and a reward that costs nothing. */
#include <stdio.h>
#include <string.h>

#include "base/cache.h"
#include "base/clock.h"
#include "base/file.h"
#include "model/random_model.h"
#include "train/bench.h"

/* Mean of all numbers of a picture. */
static int brightness(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                      int width, float *scores) {
    (void)user, (void)prompt, (void)metadata;
    const size_t n = (size_t)height * (size_t)width * 3;
    for (int k = 0; k < count; k++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < n; i++) sum += rgb[(size_t)k * n + i];
        scores[k] = (float)((double)sum / (double)n / 255);
    }
    return 0;
}

/* ---- the folder ---- */
typedef struct Watch {
    const Job *job;
    const char *folder;
    double last;
} Watch;

static int watch_writing(void *user, size_t done, size_t all, Error *err) {
    Watch *w = user;
    const double now = clock_seconds(), gb = 1e9;
    if (job_cancelled(w->job))
        return fail(err, DRPO_E_CANCELLED, "stopped on request while random weights were written");
    if (done == 0)
        log_info(&w->job->log,
                 "%s: %.1f GB of random weights are written there, once; remove it when it is no longer needed",
                 w->folder, (double)all / gb);
    if (done && now - w->last >= 10) log_info(&w->job->log, "%.1f of %.1f GB", (double)done / gb, (double)all / gb);
    if (done == 0 || now - w->last >= 10) w->last = now;
    return 0;
}

static int find_folder(const Config *c, Arena *a, const char **folder, Error *err) {
    const char *given = config_text(c, OPT_SHAPE_DIR), *cache = given[0] ? NULL : cache_folder(a);
    if (!given[0] && !cache)
        return fail(err, DRPO_E_USAGE,
                    "--shape %s: neither XDG_CACHE_HOME nor HOME is set; name a folder for the random model with "
                    "--shape-dir",
                    config_text(c, OPT_SHAPE));
    *folder = given[0] ? path_join(a, given, config_text(c, OPT_SHAPE))
                       : arena_printf(a, "%s/shapes/%s", cache, config_text(c, OPT_SHAPE));
    return *folder ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

static int make_folder(const Job *job, Family family, const char *folder, Arena *a, Error *err) {
    Watch watch = {.job = job, .folder = folder};
    const char *tokenizer = asset_find("tiny-turbo/tokenizer", a);
    if (!tokenizer) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (random_model_make(family, tokenizer, folder, (RandomWatch){watch_writing, &watch}, err) == 0) return 0;
    return fail_in(err, "--shape %s", config_text(job->config, OPT_SHAPE));
}

/* ---- options ---- */
static int set_number(Config *c, OptionId id, long long value, Error *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    return config_set(c, option_info(id)->key, text, SOURCE_DEFAULT, err);
}

/* Moments of the last map, whole and in the cells that divide it. */
static int set_features(Config *c, const char *folder, Arena *a, Error *err) {
    enum { USUAL_SIDE = 512, FACTOR = 8, HALVINGS = 3 };
    const int pixels = config_int(c, OPT_RESOLUTION) ? (int)config_int(c, OPT_RESOLUTION) : USUAL_SIDE;
    int side = pixels / FACTOR;
    for (int i = 0; i < HALVINGS; i++) side = (side + 1) / 2;
    const char *spec =
        arena_printf(a, "resnet:%s/features?keys=layer4_mean,layer4_std%s%s", folder,
                     side % 2 ? "" : ",layer4_mean_2,layer4_std_2", side % 4 ? "" : ",layer4_mean_4,layer4_std_4");
    if (!spec) return fail(err, DRPO_E_MEMORY, "out of memory");
    return config_set(c, option_info(OPT_FEATURES)->key, spec, SOURCE_DEFAULT, err);
}

static int set_options(Config *c, const char *folder, Arena *a, Error *err) {
    const long long third = config_int(c, OPT_CANDIDATES) / 3, picked = third ? third : 1;
    TRY(config_set(c, option_info(OPT_MODEL)->key, folder, SOURCE_DEFAULT, err));
    TRY(config_set(c, option_info(OPT_REWARD)->key, "callback:brightness", SOURCE_DEFAULT, err));
    TRY(set_number(c, OPT_PROMPTS_PER_STEP, 1, err));
    TRY(set_number(c, OPT_POSITIVES, picked, err));
    TRY(set_number(c, OPT_NEGATIVES, picked, err));
    return set_features(c, folder, a, err);
}

int bench_shape(const Job *job, Arena *a, Job *out, Error *err) {
    static const RewardCallback reward = {.name = "brightness", .fn = brightness};
    static const Family families[] = {[SHAPE_SD_TURBO] = FAMILY_SD_TURBO, [SHAPE_SDXL_TURBO] = FAMILY_SDXL_TURBO};
    const Shaped shape = (Shaped)config_choice(job->config, OPT_SHAPE);
    const char *folder;
    *out = *job;
    if (shape == SHAPE_TINY) return 0;
    if (config_source(job->config, OPT_MODEL) != SOURCE_DEFAULT)
        return fail(err, DRPO_E_USAGE, "--shape %s and --model both say what is timed; leave one of them out",
                    config_text(job->config, OPT_SHAPE));
    TRY(find_folder(job->config, a, &folder, err));
    TRY(set_options(job->config, folder, a, err));
    out->rewards = &reward;
    out->n_rewards = 1;
    TRY(config_check(job->config, err)); /* before anything large is written */
    return dir_exists(folder) ? 0 : make_folder(job, families[shape], folder, a, err);
}
