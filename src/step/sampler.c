/* Sampler: pictures from prompts and noise, without learning. Used by sample, by eval and by training's own evaluation.
 */
#include <stdlib.h>
#include <string.h>

#include "model/decode_pass.h"
#include "model/generator_pass.h"
#include "model/text_pass.h"
#include "step/step.h"

struct Sampler {
    Backend *backend;
    TextPass *text;
    GeneratorPass *generate;
    DecodePass *decode;
    void *memory;
    size_t bytes;
    int batch, height, width;
    size_t latent_count;
    float *latents; /* [batch,C,h,w] */
};

static const size_t text_cache_bytes = (size_t)1 << 20;

static int open_all(Sampler *s, Pipeline *p, Adapter *a, int resolution, bool released_x0, Error *err) {
    int size;
    TRY(pipeline_latent_side(p, resolution, &size, err));
    s->height = s->width = size * p->factor;
    s->latent_count = (size_t)p->latent_channels * (size_t)size * (size_t)size;
    TRY(text_pass_new(p, s->backend, text_cache_bytes, &s->text, err));
    GeneratorPassOptions o = {
        .batch = s->batch, .height = size, .width = size, .released_x0 = released_x0, .adapter = a};
    TRY(generator_pass_new(p, s->backend, &o, &s->generate, err));
    TRY(decode_pass_new(p, s->backend, s->batch, size, size, &s->decode, err));
    size_t generate = generator_pass_bytes(s->generate), decode = decode_pass_bytes(s->decode);
    s->bytes = generate > decode ? generate : decode;
    s->memory = s->backend->alloc(s->backend, s->bytes);
    s->latents = malloc((size_t)s->batch * s->latent_count * sizeof(float));
    if (!s->memory || !s->latents)
        return fail(err, DRPO_E_MEMORY, "cannot allocate %zu MiB for sampling", s->bytes >> 20);
    TRY(generator_pass_bind(s->generate, s->memory, err));
    return decode_pass_bind(s->decode, s->memory, err);
}

int sampler_new(Pipeline *p, Backend *b, Adapter *a, int batch, int resolution, bool released_x0, Sampler **out,
                Error *err) {
    Sampler *s = calloc(1, sizeof *s);
    if (!s) return fail(err, DRPO_E_MEMORY, "out of memory");
    s->backend = b;
    s->batch = batch;
    int code = open_all(s, p, a, resolution, released_x0, err);
    if (code < 0) {
        sampler_free(s);
        return code;
    }
    *out = s;
    return 0;
}

void sampler_free(Sampler *s) {
    if (!s) return;
    text_pass_free(s->text);
    generator_pass_free(s->generate);
    decode_pass_free(s->decode);
    if (s->memory) s->backend->free(s->backend, s->memory, s->bytes);
    free(s->latents);
    free(s);
}

size_t sampler_noise_count(const Sampler *s) { return s->latent_count; }

void sampler_size(const Sampler *s, int *height, int *width) {
    *height = s->height;
    *width = s->width;
}

int sampler_run(Sampler *s, const char *prompt, const float *noise, int count, float *latents, uint8_t *rgb,
                Error *err) {
    const float *text;
    TRY(text_pass_encode(s->text, prompt, &text, NULL, err));
    for (int first = 0; first < count; first += s->batch) {
        int n = count - first < s->batch ? count - first : s->batch;
        size_t at = (size_t)first * s->latent_count;
        TRY(generator_pass_forward(s->generate, text, noise + at, n, err));
        generator_pass_latents(s->generate, s->latents, n);
        if (latents) memcpy(latents + at, s->latents, (size_t)n * s->latent_count * sizeof(float));
        if (rgb)
            TRY(decode_pass_run(s->decode, s->latents, n, rgb + (size_t)first * (size_t)(s->height * s->width) * 3,
                                err));
    }
    return 0;
}
