/* Feature maps that stand beside the generator, against transformers and diffusers (tools/golden/features.py): values
 * of every key and the gradient with respect to the latents, in batches, with and without recomputation; what a map
 * draws itself; and specifications that make no sense. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "golden.h"
#include "step/feature/feature.h"

enum { SIDE = 16, N = 2, LATENT = 4 * SIDE * SIDE };

static const char dinov2[] = "dinov2:" SOURCE_DIR "/tests/golden/feature_dinov2";
static const char vitmae[] = "vitmae:" SOURCE_DIR "/tests/golden/feature_vitmae";

typedef struct World {
    Pipeline *pipeline;
    Backend *backend;
    FeatureMaps *maps;
    FeatureBuilder builder;
    LatentPass *pass;
    Error err;
} World;

static void world_open(World *w, const char *spec, int batch, bool backward, size_t budget, bool reference) {
    *w = (World){0};
    assert_ok(pipeline_open(SOURCE_DIR "/tests/fixtures/tiny-turbo", &w->pipeline, &w->err), w->err);
    w->backend = reference ? backend_ref_new(&w->err) : backend_cpu_new(1, &w->err);
    assert_non_null(w->backend);
    assert_ok(feature_maps_open(spec, w->pipeline, SIDE, SIDE, false, &w->maps, &w->err), w->err);
    w->builder = feature_maps_builder(w->maps, FEATURES_ALL);
    LatentPassOptions o = {batch, SIDE, SIDE, &w->builder, backward, budget, true};
    assert_ok(latent_pass_new(w->pipeline, w->backend, &o, &w->pass, &w->err), w->err);
    assert_ok(latent_pass_bind(w->pass, NULL, &w->err), w->err);
}

static void world_close(World *w) {
    latent_pass_free(w->pass);
    feature_maps_close(w->maps);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
}

static const float *golden_values(SafeFile *io, const char *kind, const char *key, size_t n) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", kind, key);
    const SafeTensor *t = safetensors_find(io, name);
    if (!t || t->bytes != n * sizeof(float)) fail_msg("no tensor %s of %zu numbers", name, n);
    return t->data;
}

/* Returns the bytes of activations. */
static size_t compare(const char *golden, const char *spec, int batch, size_t budget, bool reference,
                      double tolerance) {
    World w;
    SafeFile *io;
    char path[512];
    snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/%s/io.safetensors", golden);
    world_open(&w, spec, batch, true, budget, reference);
    assert_ok(safetensors_open(path, &io, &w.err), w.err);
    const float *latents = golden_values(io, "input", "latents", N * LATENT);
    const SafeTensor *text = safetensors_find(io, "input.text");
    const LatentDraw draw = {{1, RNG_METHOD, 0, 0, 0}, 0};
    float *features = malloc(sizeof *features * 1 << 20), gradient[N * LATENT];
    const float *seeds[MAX_FEATURE_KEYS];
    for (int first = 0; first < N; first += batch) {
        const int count = N - first < batch ? N - first : batch;
        assert_ok(latent_pass_forward(w.pass, text ? text->data : NULL, &draw, first, latents + first * LATENT, count,
                                      &w.err),
                  w.err);
        for (int i = 0; i < w.builder.count; i++) {
            const char *key = feature_maps_key(w.maps, i);
            int tokens, dim;
            latent_pass_feature(w.pass, i, &tokens, &dim);
            const size_t row = (size_t)tokens * (size_t)dim;
            const float *want = golden_values(io, "output", key, N * row) + (size_t)first * row;
            latent_pass_features(w.pass, i, features, count);
            const double error = relative_error(features, want, (size_t)count * row);
            if (!(error < tolerance)) fail_msg("%s: %s differs by %.3g", golden, key, error);
            char seed[128];
            snprintf(seed, sizeof seed, "input.seed.%s", key);
            seeds[i] = (const float *)safetensors_find(io, seed)->data + (size_t)first * row;
        }
        assert_ok(latent_pass_backward(w.pass, seeds, count, gradient + first * LATENT, &w.err), w.err);
    }
    const double error = relative_error(gradient, golden_values(io, "output", "gradient", N * LATENT), N * LATENT);
    print_message("%s, batch %d: gradient differs by %.2g, %zu bytes\n", golden, batch, error,
                  latent_pass_bytes(w.pass));
    if (!(error < 10 * tolerance)) fail_msg("%s: the gradient differs by %.3g", golden, error);
    const size_t bytes = latent_pass_bytes(w.pass);
    free(features);
    safetensors_close(io);
    world_close(&w);
    return bytes;
}

static void check_map(const char *golden, const char *spec) {
    compare(golden, spec, 1, 0, true, 1e-6);
    const size_t whole = compare(golden, spec, 2, 0, false, 2e-5);
    const size_t one = compare(golden, spec, 1, 1, false, 2e-5); /* all that can be is computed again */
    assert_true(one < whole);
    compare(golden, spec, 3, 0, false, 2e-5); /* a batch that is not filled */
}

static void test_teacher(void **state) {
    (void)state;
    check_map("feature_teacher", "teacher?keys=down_blocks.0,mid_block,up_blocks.0&noise=0");
}

static void test_dinov2(void **state) {
    (void)state;
    char spec[600];
    snprintf(spec, sizeof spec, "%s?keys=%s", dinov2,
             "layer0_patch,layer1_patch_mean,layer2_patch_std,layer2_cls,layer3_patch_patch2_mean,"
             "layer3_patch_patch2_std,layer3_patch_mean,layer3_cls_mean");
    check_map("feature_dinov2", spec);
}

static void test_vit_mae(void **state) {
    (void)state;
    char spec[600];
    snprintf(spec, sizeof spec, "%s?resize=plain&keys=layer2_patch_mean,layer2_patch_std,layer2_cls,layer1_patch",
             vitmae);
    check_map("feature_vitmae", spec);
}

/* features [N,dim] of one key with one token */
static void look(World *w, const float *latents, int role, const float *text, float *features) {
    const LatentDraw draw = {{5, RNG_METHOD, 7, 1, 0}, role};
    assert_ok(latent_pass_forward(w->pass, text, &draw, 3, latents, N, &w->err), w->err);
    latent_pass_features(w->pass, 0, features, N);
}

/* The teacher sees x0 + noise * n with n of the candidate, the same for policy and reference unless fresh. */
static void test_teacher_noise(void **state) {
    (void)state;
    enum { DIM = 1 << 12 };
    World noisy, plain, fresh;
    const char *key = "teacher?keys=mid_block&noise=0.3";
    float latents[N * LATENT], moved[N * LATENT], n[N * LATENT], text[32 * 1024], *f = calloc(4 * N * DIM, sizeof *f);
    rng_normal((RngKey){2, RNG_TEST, 0, 0, 0}, latents, N * LATENT);
    rng_normal((RngKey){3, RNG_TEST, 0, 0, 0}, text, 32 * 1024);
    for (int i = 0; i < N; i++) rng_normal((RngKey){5, RNG_FEATURE, 7, 1, 3 + i}, n + i * LATENT, LATENT);
    for (int i = 0; i < N * LATENT; i++) moved[i] = latents[i] + 0.3f * n[i];
    world_open(&noisy, key, N, false, 0, false);
    world_open(&plain, "teacher?keys=mid_block&noise=0", N, false, 0, false);
    world_open(&fresh, "teacher?keys=mid_block&noise=0.3&fresh=true", N, false, 0, false);
    int tokens, dim;
    latent_pass_feature(noisy.pass, 0, &tokens, &dim);
    assert_int_equal(tokens, 1);
    const size_t all = (size_t)N * (size_t)dim;
    look(&noisy, latents, 0, text, f);
    look(&noisy, latents, 1, text, f + all);
    look(&plain, moved, 0, text, f + 2 * all);
    assert_memory_equal(f, f + all, all * sizeof *f);
    assert_true(relative_error(f, f + 2 * all, all) < 1e-5);
    assert_false(feature_maps_redraws(noisy.maps));
    assert_true(feature_maps_redraws(fresh.maps));
    look(&fresh, latents, 0, text, f + all);
    look(&fresh, latents, 1, text, f + 2 * all);
    assert_memory_equal(f, f + all, all * sizeof *f);
    assert_true(relative_error(f, f + 2 * all, all) > 1e-3);
    free(f);
    world_close(&noisy);
    world_close(&plain);
    world_close(&fresh);
}

/* Masked, a look depends on whose it is; unmasked it does not. The mean over all patches is no mean over some. */
static void test_mask(void **state) {
    (void)state;
    World w;
    char spec[600];
    float latents[N * LATENT], f[3][N * 64];
    rng_normal((RngKey){2, RNG_TEST, 0, 0, 0}, latents, N * LATENT);
    snprintf(spec, sizeof spec, "%s?mask=true&keys=layer2_patch_mean", vitmae);
    world_open(&w, spec, N, false, 0, false);
    assert_true(feature_maps_redraws(w.maps));
    for (int role = 0; role < 2; role++) look(&w, latents, role, NULL, f[role]);
    look(&w, latents, 0, NULL, f[2]);
    assert_memory_equal(f[0], f[2], N * 24 * sizeof(float));
    assert_true(relative_error(f[0], f[1], N * 24) > 1e-3);
    world_close(&w);
    snprintf(spec, sizeof spec, "%s?keys=layer2_patch_mean", vitmae);
    world_open(&w, spec, N, false, 0, false);
    assert_false(feature_maps_redraws(w.maps));
    for (int role = 0; role < 2; role++) look(&w, latents, role, NULL, f[role]);
    assert_memory_equal(f[0], f[1], N * 24 * sizeof(float));
    assert_true(relative_error(f[0], f[2], N * 24) > 1e-3);
    world_close(&w);
}

/* Norms of the latents, and every second row and column. */
static void test_latent_keys(void **state) {
    (void)state;
    World w;
    float latents[N * LATENT], out[N * LATENT];
    rng_normal((RngKey){2, RNG_TEST, 0, 0, 0}, latents, N * LATENT);
    world_open(&w, "latent?keys=latent_norm,input_x2_mean,norm_x,latent&stride=2", N, true, 0, false);
    const LatentDraw draw = {{0}, 0};
    assert_ok(latent_pass_forward(w.pass, NULL, &draw, 0, latents, N, &w.err), w.err);
    for (int key = 0; key < 3; key++) {
        latent_pass_features(w.pass, key, out, N);
        for (int i = 0; i < N * 4; i++) {
            double squares = 0;
            for (int k = 0; k < SIDE * SIDE; k++) {
                const double x = latents[i * SIDE * SIDE + k];
                squares += x * x / (SIDE * SIDE);
            }
            const double want = key == 1 ? squares : sqrt(squares + (key == 2 ? 1e-6 : 0));
            assert_true(fabs(out[i] - want) < 1e-5 * want);
        }
    }
    latent_pass_features(w.pass, 3, out, N);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < 4; c++)
            for (int y = 0; y < SIDE / 2; y++)
                for (int x = 0; x < SIDE / 2; x++)
                    assert_true(out[((i * SIDE / 2 + y) * SIDE / 2 + x) * 4 + c] ==
                                latents[((i * 4 + c) * SIDE + 2 * y) * SIDE + 2 * x]);
    world_close(&w);
}

static void test_mistakes(void **state) {
    (void)state;
    static const struct {
        const char *spec, *says;
    } wrong[] = {
        {"nothing", "unknown map 'nothing' (latent, resnet:FOLDER|FILE, teacher, dinov2:FOLDER, vitmae:FOLDER)"},
        {"dinov2", "needs its weights"},
        {"latent:here", "takes no path"},
        {"dinov2:/nowhere", "no folder '/nowhere'"},
        {"teacher?noise=-1", "noise=-1"},
        {"teacher?fresh=maybe", "true or false"},
        {"teacher?colour=red", "unknown option 'colour'"},
        {"teacher?keys=up_blocks.9", "there is no block 'up_blocks.9'"},
        {"latent?keys=", "names no key"},
        {"latent?keys=layer1_mean", "layer1_mean"},
        {"vitmae:" SOURCE_DIR "/tests/golden/feature_dinov2", "use dinov2:"},
        {"dinov2:" SOURCE_DIR "/tests/golden/feature_dinov2?keys=layer5_cls", "layer0..layer4"},
        {"dinov2:" SOURCE_DIR "/tests/golden/feature_dinov2?keys=layer1_patch_patch3_mean", "cells of 3"},
        {"dinov2:" SOURCE_DIR "/tests/golden/feature_dinov2?keys=layer1_cls&resize=nearest", "antialias or plain"},
    };
    Error err = {0};
    Pipeline *p;
    FeatureMaps *maps;
    assert_ok(pipeline_open(SOURCE_DIR "/tests/fixtures/tiny-turbo", &p, &err), err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (feature_maps_open(wrong[i].spec, p, SIDE, SIDE, false, &maps, &err) >= 0)
            fail_msg("%s is accepted", wrong[i].spec);
        if (!strstr(err.text, wrong[i].says)) fail_msg("%s: '%s' lacks '%s'", wrong[i].spec, err.text, wrong[i].says);
        error_clear(&err);
    }
    pipeline_free(p);
}

/* ViT-MAE that is given pictures of another side */
static void expect_masked(int side, const char *keys, const char *says) {
    static const char *const same[] = {"config.json", "model.safetensors"};
    static const char folder[] = TEST_TMP "/masked", golden_file[] = SOURCE_DIR "/tests/golden/feature_vitmae/";
    char path[600], spec[700];
    Error err = {0};
    json_t *sizes = NULL;
    Pipeline *p;
    FeatureMaps *maps;
    assert_int_equal(dir_make(folder, &err), 0);
    snprintf(path, sizeof path, "%spreprocessor_config.json", golden_file);
    assert_ok(json_load_path(path, &sizes, &err), err);
    json_object_set_new(json_object_get(sizes, "size"), "height", json_integer(side));
    assert_ok(json_save_path(TEST_TMP "/masked/preprocessor_config.json", sizes, &err), err);
    json_decref(sizes);
    for (int i = 0; i < 2; i++) {
        char link[600];
        snprintf(path, sizeof path, "%s%s", golden_file, same[i]);
        snprintf(link, sizeof link, "%s/%s", folder, same[i]);
        unlink(link);
        assert_int_equal(symlink(path, link), 0);
    }
    snprintf(spec, sizeof spec, "vitmae:%s?mask=true&keys=%s", folder, keys);
    assert_ok(pipeline_open(SOURCE_DIR "/tests/fixtures/tiny-turbo", &p, &err), err);
    assert_int_equal(feature_maps_open(spec, p, SIDE, SIDE, false, &maps, &err), DRPO_E_INPUT);
    if (!strstr(err.text, says)) fail_msg("%s: '%s' lacks '%s'", spec, err.text, says);
    pipeline_free(p);
}

static void test_masks_that_do_not_fit(void **state) {
    (void)state;
    expect_masked(12 * 65, "layer1_patch_mean", "at most 4096 patches, not from 4225");
    expect_masked(12 * 5, "layer1_patch_std", "'layer1_patch_std': mask=true keeps 6 of 25");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_teacher),  cmocka_unit_test(test_dinov2),
        cmocka_unit_test(test_vit_mae),  cmocka_unit_test(test_teacher_noise),
        cmocka_unit_test(test_mask),     cmocka_unit_test(test_latent_keys),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_masks_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
