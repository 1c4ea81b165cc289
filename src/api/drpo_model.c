/* Public API: pictures in memory. See include/drpo.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/session.h"

struct drpo_model {
    Session session;
    Adapter *adapter;
    Sampler *sampler;
};

enum { PICTURES_PER_PASS = 8 };

static int report(const Error *e, char *error, size_t size) {
    if (error && size) snprintf(error, size, "%s", e->text);
    return e->code;
}

static int open_model(drpo_model *m, Config *c, const char *lora, Error *err) {
    TRY(session_open(&m->session, c, err));
    if (lora && lora[0]) TRY(adapter_open(m->session.pipeline, lora, &m->adapter, err));
    return sampler_new(m->session.pipeline, m->session.backend, m->adapter, PICTURES_PER_PASS, 0, false, &m->sampler,
                       err);
}

int drpo_model_open(const char *folder, const char *lora, int threads, drpo_model **model, char *error,
                    size_t error_size) {
    Error err = {0};
    char count[16];
    if (!folder || !model || threads < 0) {
        fail(&err, DRPO_E_USAGE, "drpo_model_open needs a folder, a place for the model, and threads >= 0");
        return report(&err, error, error_size);
    }
    snprintf(count, sizeof count, "%d", threads);
    drpo_model *m = calloc(1, sizeof *m);
    Config *c = config_new(DRPO_SAMPLE);
    int code = m && c ? 0 : fail(&err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = config_set(c, "model", folder, SOURCE_FLAG, &err);
    if (code == 0) code = config_set(c, "threads", count, SOURCE_FLAG, &err);
    if (code == 0) code = open_model(m, c, lora, &err);
    config_free(c);
    if (code < 0) {
        drpo_model_free(m);
        return report(&err, error, error_size);
    }
    *model = m;
    return 0;
}

void drpo_model_free(drpo_model *m) {
    if (!m) return;
    if (m->sampler) sampler_free(m->sampler);
    if (m->adapter) lora_free(m->adapter);
    session_close(&m->session);
    free(m);
}

int drpo_model_size(const drpo_model *m, int *height, int *width) {
    if (!m || !height || !width) return DRPO_E_USAGE;
    sampler_size(m->sampler, height, width);
    return 0;
}

static int sample(drpo_model *m, const char *prompt, uint64_t seed, int count, uint8_t *rgb, Error *err) {
    size_t n = sampler_noise_count(m->sampler);
    NoiseSource *noise = NULL;
    float *z = malloc(n * (size_t)count * sizeof *z);
    if (!z) return fail(err, DRPO_E_MEMORY, "out of memory for %d pictures", count);
    int code = noise_open(NOISE_PHILOX, NULL, seed, n, 0, &noise, err);
    if (code == 0) code = noise_images(noise, 0, count, z, err);
    if (code == 0) code = sampler_run(m->sampler, prompt, z, count, NULL, rgb, err);
    if (noise) noise_close(noise);
    free(z);
    return code;
}

int drpo_model_sample(drpo_model *m, const char *prompt, uint64_t seed, int count, uint8_t *rgb, char *error,
                      size_t error_size) {
    Error err = {0};
    int code = m && prompt && rgb && count > 0
                   ? sample(m, prompt, seed, count, rgb, &err)
                   : fail(&err, DRPO_E_USAGE,
                          "drpo_model_sample needs a model, a prompt, a count above 0 and room for the pictures");
    return code < 0 ? report(&err, error, error_size) : 0;
}
