/* The gradient of one update with other methods and objectives against PyTorch (tools/reference/golden_methods.py,
 * float64): same prompts, noise, adapter and scores. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/prompts.h"
#include "format/safetensors.h"
#include "gradient_gap.h"
#include "start_adapter.h"

enum { PROMPTS = 2, K = 6, SIDE = 64 };

static const char file_path[] = SOURCE_DIR "/tests/golden/methods/methods.safetensors";
static const char lora_path[] = SOURCE_DIR "/tests/golden/methods/lora_init.safetensors";
static const char prompt_path[] = SOURCE_DIR "/tests/golden/updates/prompts.jsonl";

typedef struct World {
    Arena *arena;
    Pipeline *pipeline;
    Backend *backend;
    Adapter *adapter;
    RewardSet rewards;
    PromptList prompts;
    SafeFile *golden;
    const float *scores;
    uint8_t seen[SIDE * SIDE * 3]; /* the first candidate of the first prompt */
    Error err;
} World;

static int given_scores(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                        int width, float *scores) {
    World *w = user;
    (void)metadata, (void)height, (void)width;
    int at = strcmp(prompt, w->prompts.items[0].text) != 0;
    if (at == 0) memcpy(w->seen, rgb, sizeof w->seen);
    memcpy(scores, w->scores + (size_t)at * K, (size_t)count * sizeof *scores);
    return 0;
}

static void world_open(World *w) {
    *w = (World){.arena = arena_new()};
    RewardCallback callback = {.name = "given", .fn = given_scores, .user = w};
    const char *specs[] = {"callback:given"};
    assert_ok(pipeline_open(SOURCE_DIR "/tests/fixtures/tiny-turbo", &w->pipeline, &w->err), w->err);
    w->backend = backend_cpu_new(1, &w->err);
    assert_non_null(w->backend);
    w->adapter = start_adapter(w->pipeline, 2, "to_k,to_out.0", lora_path);
    assert_ok(reward_set_open(specs, 1, &callback, 1, &w->rewards, &w->err), w->err);
    assert_ok(prompts_read(prompt_path, w->arena, &w->prompts, &w->err), w->err);
    assert_ok(safetensors_open(file_path, &w->golden, &w->err), w->err);
    w->scores = safetensors_find(w->golden, "scores")->data;
}

static void world_close(World *w) {
    safetensors_close(w->golden);
    reward_set_close(&w->rewards);
    lora_free(w->adapter);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
    arena_free(w->arena);
}

static void check(World *w, const char *name, const StepOptions *o, double tolerance) {
    Step *step = NULL;
    NoiseSource *noise = NULL;
    StepStats stats;
    char key[64];
    float *grad = calloc(w->adapter->count, sizeof *grad);
    assert_non_null(grad);
    assert_ok(step_new(w->pipeline, w->backend, w->adapter, o, &step, &w->err), w->err);
    assert_ok(noise_open(NOISE_FILE, file_path, 0, 4 * 16 * 16, 0, &noise, &w->err), w->err);
    assert_ok(step_gradient(step, w->prompts.items, PROMPTS, 0, noise, &w->rewards, grad, &stats, &w->err), w->err);
    assert_int_equal(stats.prompts_used, PROMPTS);
    const double gap = golden_gap(w->golden, name, w->adapter, grad);
    snprintf(key, sizeof key, "%s.loss", name);
    print_message("%s: gradient differs by %.3g, loss %.6g (all terms: %.6g)\n", name, gap, stats.pref_loss,
                  ((const float *)safetensors_find(w->golden, key)->data)[0]);
    if (!(gap < tolerance)) fail_msg("%s: gradient differs by %g", name, gap);
    free(grad);
    noise_close(noise);
    step_free(step);
}

static StepOptions options(MethodKind kind) {
    return (StepOptions){.candidates = K, .positives = 2, .negatives = 2, .threads = 1, .learn.method.kind = kind};
}

static void dpo(void **state) {
    (void)state;
    World w;
    world_open(&w);
    StepOptions o = options(METHOD_DPO);
    o.learn.method.dpo_beta = 30;
    o.drift.latent_l2 = 0.5f;
    check(&w, "dpo", &o, 1e-4);
    o.chunk = 4; /* candidates drawn again for the gradient */
    check(&w, "dpo", &o, 1e-4);
    world_close(&w);
}

static void pso(void **state) {
    (void)state;
    World w;
    world_open(&w);
    StepOptions o = options(METHOD_PSO);
    o.learn.method.pso_beta = 20, o.learn.method.pso_std = 0.3f, o.learn.method.pso_clip = 0.2f;
    check(&w, "pso", &o, 1e-4);
    const float *picture = safetensors_find(w.golden, "picture")->data;
    int off = 0;
    for (int i = 0; i < SIDE * SIDE * 3; i++) off += fabsf(picture[i] * 255 - w.seen[i]) > 0.5f;
    if (off > 20) fail_msg("the reward sees another picture: %d of %d values differ", off, SIDE * SIDE * 3);
    world_close(&w);
}

static void grpo(void **state) {
    (void)state;
    World w;
    world_open(&w);
    StepOptions o = options(METHOD_GRPO);
    o.learn.method.grpo_anchors = K;
    o.learn.method.grpo_power = 0.8f, o.learn.method.grpo_scale = 1, o.learn.method.grpo_advantage_clip = 5;
    o.learn.method.grpo_temperature = 1;
    o.drift.latent_l2 = 0.02f;
    check(&w, "grpo", &o, 1e-4);
    world_close(&w);
}

static void soft_objective_and_terms_beside_it(void **state) {
    (void)state;
    World w;
    world_open(&w);
    StepOptions o = options(METHOD_DRPO);
    o.features = "resnet:" SOURCE_DIR "/assets/tiny-dae?keys=layer4_mean,layer4_std,latent_mean_8,latent_std_8";
    o.mean_keys = true;
    o.drift = (DriftOptions){.radii = {0.05f, 0.3f, 1}, .n_radii = 3};
    o.learn.soft = (SoftOptions){OBJECTIVE_AWR_CONTRAST, 1, 20, 0.5f, 1, 1};
    o.learn.keep = (KeepOptions){0.3f, 0.5f, 1.2f, 0.4f, 0.9f, 1.5f, 0.1f};
    check(&w, "soft", &o, 1e-3);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dpo),
        cmocka_unit_test(pso),
        cmocka_unit_test(grpo),
        cmocka_unit_test(soft_objective_and_terms_beside_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
