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
    void *memory; /* of its own; NULL: someone else's is used */
    size_t bytes;
    int batch, height, width;
    size_t latent_count;
    float *latents; /* [batch,C,h,w] */
};

/* Activations of larger batches than this leave the caches without saving time. */
static const size_t batch_bytes = (size_t)1 << 30;

/* Halves the batch until it fits. */
static int choose_batch(Sampler *s, Pipeline *p, GeneratorPassOptions *o, Error *err) {
    for (; s->batch > 1; s->batch = (s->batch + 1) / 2) {
        size_t bytes;
        o->batch = s->batch;
        TRY(generator_pass_measure(p, s->backend, o, &bytes, err));
        if (bytes <= batch_bytes) break;
    }
    o->batch = s->batch;
    return 0;
}

static int open_all(Sampler *s, Pipeline *p, Adapter *a, int resolution, bool released_x0, Scratch *scratch,
                    Error *err) {
    int size;
    TRY(pipeline_latent_side(p, resolution, &size, err));
    s->height = s->width = size * p->factor;
    s->latent_count = (size_t)p->latent_channels * (size_t)size * (size_t)size;
    TRY(text_pass_new(p, s->backend, &s->text, err));
    GeneratorPassOptions o = {.height = size, .width = size, .released_x0 = released_x0, .adapter = a};
    TRY(choose_batch(s, p, &o, err));
    TRY(generator_pass_new(p, s->backend, &o, &s->generate, err));
    TRY(decode_pass_new(p, s->backend, decode_batch(s->batch, s->height, s->width), size, size, &s->decode, err));
    size_t generate = generator_pass_bytes(s->generate), decode = decode_pass_bytes(s->decode);
    s->bytes = generate > decode ? generate : decode;
    if (scratch->bytes < s->bytes) {
        s->memory = s->backend->alloc(s->backend, s->bytes);
        *scratch = (Scratch){s->memory, s->bytes};
    }
    s->latents = malloc((size_t)s->batch * s->latent_count * sizeof(float));
    if (!scratch->memory || !s->latents)
        return fail(err, DRPO_E_MEMORY, "cannot allocate %zu MiB for sampling", s->bytes >> 20);
    TRY(generator_pass_bind(s->generate, scratch->memory, err));
    return decode_pass_bind(s->decode, scratch->memory, err);
}

int sampler_new_at(Pipeline *p, Backend *b, Adapter *a, int batch, int resolution, bool released_x0, Scratch *scratch,
                   Sampler **out, Error *err) {
    Sampler *s = calloc(1, sizeof *s);
    if (!s) return fail(err, DRPO_E_MEMORY, "out of memory");
    s->backend = b;
    s->batch = batch;
    int code = open_all(s, p, a, resolution, released_x0, scratch, err);
    if (code < 0) {
        sampler_free(s);
        return code;
    }
    *out = s;
    return 0;
}

int sampler_new(Pipeline *p, Backend *b, Adapter *a, int batch, int resolution, bool released_x0, Sampler **out,
                Error *err) {
    Scratch none = {0};
    return sampler_new_at(p, b, a, batch, resolution, released_x0, &none, out, err);
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

size_t sampler_records(const Sampler *s) {
    size_t latents = (size_t)s->batch * s->latent_count * sizeof(float);
    return 3 * latents +
           (size_t)s->batch * (size_t)(s->height * s->width) * 3 * sizeof(float); /* with those of passes */
}

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
