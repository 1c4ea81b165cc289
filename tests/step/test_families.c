/* Whole pipelines of both families: folders with random weights in the layouts of SD-Turbo and SDXL-Turbo, drawn from
 * the noise and prompts that diffusers' own pipelines were given (tools/golden/families.py). */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/safetensors.h"
#include "step/step.h"

enum { PROMPTS = 2, LONG = 12 };

typedef struct Family {
    Pipeline *pipeline;
    SafeFile *io;
    const float *noise, *latents; /* [PROMPTS,4,h,w] */
    const uint8_t *pictures;      /* [PROMPTS,H,W,3] */
    size_t latent_count, picture_count;
    char prompt[PROMPTS][1024];
} Family;

static const SafeTensor *tensor(const Family *f, const char *name) {
    const SafeTensor *t = safetensors_find(f->io, name);
    if (!t) fail_msg("io.safetensors has no %s", name);
    assert_int_equal(t->dim[0], PROMPTS);
    return t;
}

static Family family_open(const char *name) {
    Family f = {0};
    Error err = {0};
    char folder[600];
    snprintf(folder, sizeof folder, "%s/tests/golden/families/%s", SOURCE_DIR, name);
    assert_ok(pipeline_open(folder, &f.pipeline, &err), err);
    assert_ok(safetensors_open(in_dir(folder, "io.safetensors"), &f.io, &err), err);
    const SafeTensor *noise = tensor(&f, "noise"), *pictures = tensor(&f, "pictures");
    f.noise = noise->data;
    f.latents = tensor(&f, "latents")->data;
    f.pictures = pictures->data;
    f.latent_count = noise->bytes / sizeof(float) / PROMPTS;
    f.picture_count = pictures->bytes / PROMPTS;
    strcpy(f.prompt[0], "a photo of a red circle and a blue star");
    for (int i = 0; i < LONG; i++) strcat(f.prompt[1], "three green hearts, a square and a kite! ");
    return f;
}

static void family_close(Family *f) {
    safetensors_close(f->io);
    pipeline_free(f->pipeline);
}

static double relative(const float *got, const float *want, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i])) return 1e30;
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return sqrt(difference / size);
}

/* Share of the numbers that are more than 1/255 away. */
static double far_pixels(const uint8_t *got, const uint8_t *want, size_t n) {
    size_t far = 0;
    for (size_t i = 0; i < n; i++) far += abs(got[i] - want[i]) > 1;
    return (double)far / (double)n;
}

static void draws_what_diffusers_draws(const char *name, Backend *backend) {
    Family f = family_open(name);
    Sampler *s = NULL;
    Error err = {0};
    assert_ok(sampler_new(f.pipeline, backend, NULL, 1, 0, false, &s, &err), err);
    assert_int_equal(sampler_noise_count(s), f.latent_count);
    float *latents = malloc(f.latent_count * sizeof *latents);
    uint8_t *rgb = malloc(f.picture_count);
    for (int i = 0; i < PROMPTS; i++) {
        size_t at = (size_t)i * f.latent_count;
        assert_ok(sampler_run(s, f.prompt[i], f.noise + at, 1, latents, rgb, &err), err);
        double error = relative(latents, f.latents + at, f.latent_count);
        double far = far_pixels(rgb, f.pictures + (size_t)i * f.picture_count, f.picture_count);
        if (!(error <= 1e-4)) fail_msg("%s on %s: latents of prompt %d differ by %.3g", name, backend->name, i, error);
        if (!(far <= 0.001)) fail_msg("%s on %s: %.2g of the pixels differ", name, backend->name, far);
    }
    free(latents);
    free(rgb);
    sampler_free(s);
    family_close(&f);
}

static void both_backends(const char *name) {
    Error err = {0};
    Backend *ref = backend_ref_new(&err), *cpu = backend_cpu_new(1, &err);
    assert_non_null(ref);
    assert_non_null(cpu);
    draws_what_diffusers_draws(name, ref);
    draws_what_diffusers_draws(name, cpu);
    backend_free(ref);
    backend_free(cpu);
}

static void sd_turbo(void **state) {
    (void)state;
    both_backends("sd");
}

static void sdxl_turbo(void **state) {
    (void)state;
    both_backends("sdxl");
}

/* What the configs of the published models say must come out of these folders, which have their layout. */
static void families_are_told_apart(void **state) {
    (void)state;
    Family sd = family_open("sd"), sdxl = family_open("sdxl");
    assert_false(sd.pipeline->sdxl);
    assert_int_equal(sd.pipeline->text.count, 1);
    assert_int_equal(sd.pipeline->text.pooled, 0);
    assert_true(sdxl.pipeline->sdxl);
    assert_int_equal(sdxl.pipeline->text.count, 2);
    assert_int_equal(sdxl.pipeline->text.tokens, 77);
    assert_int_equal(sdxl.pipeline->text.width, 16 + 24);
    assert_int_equal(sdxl.pipeline->text.pooled, 24);
    assert_float_equal(sdxl.pipeline->vae.scaling_factor, 0.13025, 1e-7);
    assert_float_equal(sdxl.pipeline->stock.eps_factor, 14.6146412, 2e-5);
    assert_float_equal(sdxl.pipeline->stock.timestep, 999, 0);
    family_close(&sd);
    family_close(&sdxl);
}

/* The first tokenizer pads with the end-of-text token, the second with "!", which is id 0. */
static void tokenizers_pad_differently(void **state) {
    (void)state;
    Family f = family_open("sdxl");
    Error err = {0};
    int32_t ids[2][77];
    float at_end[77];
    bool truncated;
    const TextEncoders *t = &f.pipeline->text;
    assert_ok(text_encoders_tokenize(t, "a star", ids[0], at_end, &truncated, &err), err);
    assert_false(truncated);
    int end = 0;
    while (at_end[end] == 0) end++;
    assert_true(end > 1 && end < 10);
    int32_t eos = ids[0][end];
    assert_memory_equal(ids[0], ids[1], (size_t)(end + 1) * sizeof(int32_t));
    for (int i = end + 1; i < 77; i++) assert_true(ids[0][i] == eos && ids[1][i] == 0 && at_end[i] == 0);
    assert_ok(text_encoders_tokenize(t, f.prompt[1], ids[0], at_end, &truncated, &err), err);
    assert_true(truncated && at_end[76] == 1);
    family_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_told_apart),
        cmocka_unit_test(tokenizers_pad_differently),
        cmocka_unit_test(sd_turbo),
        cmocka_unit_test(sdxl_turbo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
