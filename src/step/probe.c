/* Probe: features of finished latents and their distances. See probe.h. */
#include "step/probe.h"

#include <stdlib.h>

#include "step/feature/feature.h"
#include "step/gauges.h"
#include "step/step_internal.h"

struct Probe {
    Backend *backend;
    TextPass *text; /* the step's */
    LatentPass *pass;
    FeatureBuilder features; /* the pass points at it */
    bool needs_text;
    void *memory; /* of its own; NULL: the step's */
    size_t bytes;
    size_t latent_count; /* C*h*w */
    int keys, most;      /* pictures at a time */
    size_t size[MAX_FEATURE_KEYS];
    float *rows[MAX_FEATURE_KEYS]; /* [most,tokens,dim] of each key */
};

/* All at once where the update's memory has room for it, else one by one. */
static int plan(Probe *p, const Step *s, int side, Error *err) {
    const Scratch scratch = step_scratch(s);
    LatentPassOptions o = {.batch = p->most, .height = side, .width = side, .features = &p->features};
    size_t bytes;
    TRY(latent_pass_measure(s->pipeline, p->backend, &o, &bytes, err));
    if (bytes > scratch.bytes) o.batch = 1;
    TRY(latent_pass_new(s->pipeline, p->backend, &o, &p->pass, err));
    if (latent_pass_bytes(p->pass) <= scratch.bytes) return latent_pass_bind(p->pass, scratch.memory, err);
    p->bytes = latent_pass_bytes(p->pass);
    p->memory = p->backend->alloc(p->backend, p->bytes);
    if (!p->memory) return fail(err, DRPO_E_MEMORY, "cannot allocate %zu MiB for features", p->bytes >> 20);
    return latent_pass_bind(p->pass, p->memory, err);
}

static int open_all(Probe *p, Step *s, Error *err) {
    int side;
    TRY(pipeline_latent_side(s->pipeline, s->options.resolution, &side, err));
    p->latent_count = (size_t)s->pipeline->latent_channels * (size_t)side * (size_t)side;
    TRY(plan(p, s, side, err));
    for (int k = 0; k < p->keys; k++) {
        int tokens, dim;
        latent_pass_feature(p->pass, k, &tokens, &dim);
        p->size[k] = (size_t)tokens * (size_t)dim;
        p->rows[k] = malloc((size_t)p->most * p->size[k] * sizeof(float));
        if (!p->rows[k]) return fail(err, DRPO_E_MEMORY, "out of memory for the features of %d pictures", p->most);
    }
    return 0;
}

int probe_new(Step *s, int count, Probe **out, Error *err) {
    const FeatureBuilder features = feature_maps_builder(s->maps, FEATURES_ALL);
    *out = NULL;
    if (features.count == 0) return 0;
    Probe *p = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "out of memory");
    p->backend = s->backend;
    p->text = s->text;
    p->features = features;
    p->needs_text = features.needs_text;
    p->keys = features.count;
    p->most = count;
    const int code = open_all(p, s, err);
    if (code < 0) {
        probe_free(p);
        return code;
    }
    *out = p;
    return 0;
}

void probe_free(Probe *p) {
    if (!p) return;
    latent_pass_free(p->pass);
    if (p->memory) p->backend->free(p->backend, p->memory, p->bytes);
    for (int k = 0; k < p->keys; k++) free(p->rows[k]);
    free(p);
}

int probe_keys(const Probe *p) { return p ? p->keys : 0; }

size_t probe_records(const Probe *p) {
    size_t floats = 0;
    for (int k = 0; p && k < p->keys; k++) floats += (size_t)p->most * p->size[k];
    return floats * sizeof(float);
}

int probe_run(Probe *p, const char *prompt, RngKey key, const float *latents, int count, double *mean, Error *err) {
    const float *text = NULL;
    const LatentDraw draw = {key, 0};
    if (p->needs_text) TRY(text_pass_encode(p->text, prompt, &text, NULL, err));
    for (int first = 0; first < count; first += latent_pass_batch(p->pass)) {
        const int left = count - first, n = left < latent_pass_batch(p->pass) ? left : latent_pass_batch(p->pass);
        TRY(latent_pass_forward(p->pass, text, &draw, first, latents + (size_t)first * p->latent_count, n, err));
        for (int k = 0; k < p->keys; k++) latent_pass_features(p->pass, k, p->rows[k] + (size_t)first * p->size[k], n);
    }
    for (int k = 0; k < p->keys; k++) mean[k] = gauge_pairwise(p->rows[k], count, p->size[k]);
    return 0;
}
