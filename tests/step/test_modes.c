/* The gradient of one update against PyTorch (tools/reference/golden_modes.py, float64): through feature maps beside
 * the generator, from given pictures in every offline mode, and through a reward's own gradient; same prompts, noise,
 * adapter and scores. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/png.h"
#include "format/prompts.h"
#include "format/safetensors.h"
#include "gradient_gap.h"
#include "model/full_weights.h"
#include "start_adapter.h"
#include "step/distance.h"
#include "step/pairs.h"

enum { PROMPTS = 2, K = 6 };

static const char folder[] = SOURCE_DIR "/tests/golden/modes";
static const char file_path[] = SOURCE_DIR "/tests/golden/modes/modes.safetensors";
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
    double method; /* state that the step begins with and ends with */
    Error err;
} World;

static int given_scores(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                        int width, float *scores) {
    const World *w = user;
    (void)metadata, (void)height, (void)width, (void)rgb;
    const int at = strcmp(prompt, w->prompts.items[0].text) != 0;
    memcpy(scores, w->scores + (size_t)at * K, (size_t)count * sizeof *scores);
    return 0;
}

/* 20 mean(image sin(...) - image^2 / 4), as in golden_modes.py */
static int smooth_reward(Reward *r, const Prompt *prompt, const float *images, int n, int height, int width,
                         float *scores, float *gradient, Error *err) {
    (void)r, (void)prompt, (void)err;
    const size_t count = 3 * (size_t)height * (size_t)width;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < count; k++) {
            const size_t x = k % (size_t)width, y = k / (size_t)width % (size_t)height,
                         c = k / ((size_t)width * (size_t)height);
            const double v = images[(size_t)i * count + k],
                         weight = sin(0.9 * (double)c + 0.13 * (double)y - 0.21 * (double)x);
            sum += v * weight - 0.25 * v * v;
            gradient[(size_t)i * count + k] = (float)(20 * (weight - 0.5 * v) / (double)count);
        }
        scores[i] = (float)(20 * sum / (double)count);
    }
    return 0;
}

static void world_open(World *w, const char *prompts) {
    *w = (World){.arena = arena_new(), .method = 1};
    RewardCallback callback = {.name = "given", .fn = given_scores, .user = w};
    const char *specs[] = {"callback:given"};
    assert_ok(pipeline_open(SOURCE_DIR "/tests/fixtures/tiny-turbo", &w->pipeline, &w->err), w->err);
    w->backend = backend_cpu_new(1, &w->err);
    assert_non_null(w->backend);
    w->adapter = start_adapter(w->pipeline, 1, "to_v", in_dir(folder, "lora_init.safetensors"));
    assert_ok(reward_set_open(specs, 1, &callback, 1, &w->rewards, &w->err), w->err);
    w->rewards.reward[0]->score_gradient = smooth_reward;
    assert_ok(prompts_read(prompts, w->arena, &w->prompts, &w->err), w->err);
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

static StepStats check(World *w, const char *name, const StepOptions *o, double tolerance) {
    Step *step = NULL;
    NoiseSource *noise = NULL;
    StepStats stats;
    float *grad = calloc(w->adapter->count, sizeof *grad);
    assert_non_null(grad);
    assert_ok(step_new(w->pipeline, w->backend, w->adapter, o, &step, &w->err), w->err);
    assert_ok(noise_open(NOISE_FILE, file_path, 0, 4 * 16 * 16, 0, &noise, &w->err), w->err);
    step_set_method_state(step, w->method);
    assert_ok(step_gradient(step, w->prompts.items, PROMPTS, 0, noise, &w->rewards, grad, &stats, &w->err), w->err);
    assert_int_equal(stats.prompts_used, PROMPTS);
    const double gap = golden_gap(w->golden, name, w->adapter, grad);
    print_message("%s: gradient differs by %.3g\n", name, gap);
    if (!(gap < tolerance)) fail_msg("%s: gradient differs by %g", name, gap);
    free(grad);
    noise_close(noise);
    step_free(step);
    return stats;
}

static const char latents[] = "latent?keys=latent_mean_8,latent_std_8";

static StepOptions options(const char *features, Mode mode) {
    return (StepOptions){
        .candidates = K,
        .positives = 2,
        .negatives = 2,
        .threads = 1,
        .prompts = PROMPTS,
        .features = features,
        .drift = {.radii = {0.05f, 0.3f, 1},
                  .n_radii = 3,
                  .w_pos = 3000,
                  .w_neg = 3000,
                  .w_ref = 3000,
                  .w_ref_neg = 3000,
                  .lambda_ref = 0.5f},
        .offline = {
            .mode = mode, .folder = folder, .distance = {DISTANCE_MARGIN, true, false, false}, .fraction = 0.5f}};
}

#define DINOV2 "dinov2:" SOURCE_DIR "/tests/golden/feature_dinov2?keys=layer2_cls,layer3_patch_mean"

static void maps_beside_the_generator(void **state) {
    (void)state;
    World w;
    world_open(&w, prompt_path);
    char features[700];
    /* the reference trainer's deviation of latents floors their variance */
    snprintf(features, sizeof features, "teacher?keys=mid_block&noise=0+%s&std=floor+%s", latents, DINOV2);
    StepOptions o = options(features, MODE_ONLINE);
    check(&w, "aside", &o, 1e-3);
    o.chunk = 4; /* candidates drawn again for the gradient */
    check(&w, "aside", &o, 1e-3);
    world_close(&w);
}

static void given_pictures(void **state) {
    (void)state;
    World w;
    world_open(&w, in_dir(folder, "pairs.jsonl"));
    char features[700];
    snprintf(features, sizeof features, "%s&std=floor+%s", latents, DINOV2);
    StepOptions o = options(features, MODE_OFFLINE);
    check(&w, "offline", &o, 1e-3);
    assert_ok(pairs_check(&w.prompts, folder, &w.err), w.err);
    assert_fails(pairs_check(&w.prompts, "/nowhere", &w.err), DRPO_E_INPUT, "line 1", w.err);
    world_close(&w);
}

static void distances_to_given_pictures(void **state) {
    (void)state;
    World w;
    world_open(&w, in_dir(folder, "pairs.jsonl"));
    char features[700];
    snprintf(features, sizeof features, "%s&std=floor", latents);
    StepOptions o = options(features, MODE_OFFLINE_DISTANCE);
    StepStats stats = check(&w, "margin", &o, 1e-3);
    assert_true(fabs(stats.reward_mean) < 1e-5); /* z-scores */
    o.offline.distance.score = DISTANCE_COSINE;
    check(&w, "cosine", &o, 1e-3);
    const float *want = safetensors_find(w.golden, "distance.separate-anchors")->data;
    double best = 0;
    for (int i = 0; i < PROMPTS; i++) {
        double most = -INFINITY;
        for (int k = 0; k < K; k++) most = fmax(most, want[i * K + k]);
        best += most / PROMPTS;
    }
    o.offline.distance.score = DISTANCE_SEPARATE;
    o.offline.anchors = true;
    stats = check(&w, "separate-anchors", &o, 1e-3);
    assert_true(fabs(stats.reward_best - best) < 1e-4);
    world_close(&w);
}

/* One key by hand: the nearest of two pictures, no z-score, keys added. */
static void distance_options(void **state) {
    (void)state;
    float policy[] = {0, 0, 3, 0}, data[] = {0, 1, 4, 0, 0, 2};
    const FeatureSet set = {.tokens = 1, .dim = 2, .policy = policy, .data = data, .data_pos = 2, .data_neg = 1};
    const FeatureSet sets[2] = {set, set};
    DistanceOptions o = {DISTANCE_MARGIN, false, true, true};
    double score[2];
    Error err = {0};
    assert_ok(distance_scores(sets, 2, 2, &o, score, &err), err);
    assert_true(fabs(score[0] - 2 * (2 - 1)) < 1e-6);
    assert_true(fabs(score[1] - 2 * (sqrt(13) - 1)) < 1e-6);
    o.nearest = o.sum_keys = false;
    assert_ok(distance_scores(sets, 2, 2, &o, score, &err), err);
    assert_true(fabs(score[0] - (2 - 2.5)) < 1e-6);
}

static void reward_gradients(void **state) {
    (void)state;
    World w;
    world_open(&w, prompt_path);
    StepOptions o = options(NULL, MODE_ONLINE);
    o.learn.method.kind = METHOD_DRAFT;
    o.learn.method.draft_weight = 1.5f, o.learn.method.draft_std = 0.3f;
    o.drift.latent_l2 = 0.2f;
    check(&w, "draft", &o, 1e-4);
    o.learn.method.kind = METHOD_VGGFLOW;
    o.learn.method.vgg_scale = 50, o.learn.method.vgg_quantile = 0.8f;
    o.drift.latent_l2 = 0.1f;
    w.method = 0.2;
    check(&w, "vggflow", &o, 1e-4);
    o.memory_budget = (size_t)3 << 20; /* a picture at a time, computed again */
    check(&w, "vggflow", &o, 1e-4);
    world_close(&w);
}

/* Every weight of the UNet: the norm of its gradient and a product with sin(0.37 i) as in golden_modes.py; written and
 * read back they are the same to the bit, and an update changes the policy but not the base. */
static void all_weights(void **state) {
    (void)state;
    World w;
    Adapter *full, *again;
    Step *step = NULL;
    NoiseSource *noise = NULL;
    StepStats stats;
    char place[512];
    world_open(&w, prompt_path);
    StepOptions o = options(NULL, MODE_ONLINE);
    o.learn.method.kind = METHOD_DRAFT;
    o.learn.method.draft_weight = 1.5f, o.learn.method.draft_std = 0.3f;
    assert_ok(full_new(w.pipeline, &full, &w.err), w.err);
    assert_int_equal(lora_leaves(full), weights_count(w.pipeline->unet_weights));
    assert_ok(step_new(w.pipeline, w.backend, full, &o, &step, &w.err), w.err);
    assert_ok(noise_open(NOISE_FILE, file_path, 0, 4 * 16 * 16, 0, &noise, &w.err), w.err);
    float *grad = calloc(full->count, sizeof *grad);
    assert_ok(step_gradient(step, w.prompts.items, PROMPTS, 0, noise, &w.rewards, grad, &stats, &w.err), w.err);
    for (int i = 0; i < lora_leaves(full); i++) {
        const AdapterLeaf leaf = lora_leaf(full, i);
        char key[256];
        snprintf(key, sizeof key, "full.%s", leaf.param->name);
        const SafeTensor *t = safetensors_find(w.golden, key);
        if (!t) fail_msg("no tensor %s", key);
        const float *want = t->data;
        double squares = 0, product = 0;
        for (size_t k = 0; k < (size_t)shape_count(leaf.param->shape); k++) {
            squares += (double)grad[leaf.offset + k] * grad[leaf.offset + k];
            product += grad[leaf.offset + k] * sin(0.37 * (double)k);
        }
        if (!(fabs(sqrt(squares) - want[0]) < 2e-4 * want[0] + 1e-9) ||
            !(fabs(product - want[1]) < 5e-4 * want[0] + 1e-9))
            fail_msg("%s: norm %g, product %g; PyTorch has %g, %g", key, sqrt(squares), product, (double)want[0],
                     (double)want[1]);
    }
    Optimizer optimizer = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .total = 10};
    assert_ok(optimizer_allocate(&optimizer, full->count, &w.err), w.err);
    o.drift.latent_l2 = 1; /* measures the way from the base */
    step_free(step);
    assert_ok(step_new(w.pipeline, w.backend, full, &o, &step, &w.err), w.err);
    for (int i = 0; i < 2; i++) {
        assert_ok(step_update(step, w.prompts.items, PROMPTS, 0, noise, &w.rewards, &optimizer, &stats, &w.err), w.err);
        assert_true(i == 0 ? stats.latent_distance < 1e-4 : stats.latent_distance > 1e-3);
    }
    assert_ok(full_write(full, w.pipeline, fresh_dir("full", place), &w.err), w.err);
    assert_true(full_is_in(place));
    assert_ok(full_read(w.pipeline, place, &again, &w.err), w.err);
    assert_memory_equal(again->values, full->values, full->count * sizeof(float));
    full->values[5] = NAN;
    assert_fails(full_write(full, w.pipeline, place, &w.err), DRPO_E_NUMERIC, "not finite", w.err);
    assert_fails(lora_copy(full, w.adapter, &w.err), DRPO_E_INPUT, "--train", w.err);
    optimizer_free(&optimizer);
    free(grad);
    noise_close(noise);
    step_free(step);
    lora_free(full);
    lora_free(again);
    world_close(&w);
}

/* The bound on gradients follows their lengths; a reward without a gradient is refused by name. */
static void method_state(void **state) {
    (void)state;
    World w;
    Step *step = NULL;
    NoiseSource *noise = NULL;
    StepStats stats;
    Optimizer optimizer = {.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .total = 10};
    world_open(&w, prompt_path);
    StepOptions o = options(NULL, MODE_ONLINE);
    o.learn.method = (MethodOptions){.kind = METHOD_VGGFLOW, .vgg_scale = 50, .vgg_quantile = 0.5f};
    assert_ok(step_new(w.pipeline, w.backend, w.adapter, &o, &step, &w.err), w.err);
    assert_ok(noise_open(NOISE_FILE, file_path, 0, 4 * 16 * 16, 0, &noise, &w.err), w.err);
    assert_ok(optimizer_allocate(&optimizer, w.adapter->count, &w.err), w.err);
    assert_true(step_method_state(step) == 1);
    assert_ok(step_update(step, w.prompts.items, PROMPTS, 0, noise, &w.rewards, &optimizer, &stats, &w.err), w.err);
    assert_true(step_method_state(step) > 0.15 && step_method_state(step) < 0.225); /* golden_modes.py prints them */
    w.rewards.reward[0]->score_gradient = NULL;
    assert_fails(step_update(step, w.prompts.items, PROMPTS, 0, noise, &w.rewards, &optimizer, &stats, &w.err),
                 DRPO_E_USAGE, "has no gradient", w.err);
    optimizer_free(&optimizer);
    noise_close(noise);
    step_free(step);
    world_close(&w);
}

static void pairs_that_make_no_sense(void **state) {
    (void)state;
    static const struct {
        const char *line, *says;
    } wrong[] = {{"{\"prompt\": \"a\", \"rejected\": \"x.png\"}", "'chosen' names 0"},
                 {"{\"prompt\": \"a\", \"chosen\": [], \"rejected\": \"x.png\"}", "'chosen' names 0"},
                 {"{\"prompt\": \"a\", \"chosen\": \"x.png\", \"rejected\": [3]}", "'rejected' must hold paths"}};
    Error err = {0};
    Arena *a = arena_new();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const Prompt prompt = {.text = "a", .metadata = wrong[i].line};
        Pair pair;
        assert_fails(pair_parse(&prompt, ".", a, &pair, &err), DRPO_E_INPUT, wrong[i].says, err);
    }
    const Prompt plain = {.text = "a"};
    Pair pair;
    assert_fails(pair_parse(&plain, ".", a, &pair, &err), DRPO_E_INPUT, "JSON lines", err);
    float image[3 * 64 * 64];
    assert_fails(pair_picture(prompt_path, 64, 64, image, &err), DRPO_E_INPUT, "prompts.jsonl", err);
    static const uint8_t strip[3 * 300];
    char root[512];
    fresh_dir("modes_strip", root);
    const char *path = in_dir(root, "strip.png"); /* 64 rows high it would be 19200 pixels long */
    assert_ok(png_write_rgb(path, strip, 300, 1, NULL, 0, &err), err);
    assert_fails(pair_picture(path, 64, 64, image, &err), DRPO_E_INPUT, "strip.png", err);
    arena_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_beside_the_generator),
        cmocka_unit_test(given_pictures),
        cmocka_unit_test(distances_to_given_pictures),
        cmocka_unit_test(distance_options),
        cmocka_unit_test(reward_gradients),
        cmocka_unit_test(method_state),
        cmocka_unit_test(pairs_that_make_no_sense),
        cmocka_unit_test(all_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
