/* The latent feature network against float64 PyTorch: shipped and published layout, every kind of key, and keys that do
 * not exist. */
#include "golden.h"
#include "model/latent_resnet.h"

enum { MOST_KEYS = 32 };

static const struct {
    const char *name, *weights;
    bool std_floor;
} cases[] = {{"resnet_tiny_mae", SOURCE_DIR "/assets/tiny-mae", true},
             {"resnet_tiny_dae", SOURCE_DIR "/assets/tiny-dae", true},
             {"resnet_random", NULL, false}};
enum { CASES = sizeof cases / sizeof *cases };

static void read_config(Golden *t, const char *weights, LatentResnetConfig *c) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", weights ? weights : t->folder);
    assert_ok(latent_resnet_config_read(path, c, &t->err), t->err);
}

/* The file's outputs are the keys. */
static int keys_of(const Golden *t, const char *keys[MOST_KEYS]) {
    int n = 0;
    for (size_t i = 0; i < safetensors_count(t->io); i++) {
        const char *name = safetensors_at(t->io, i)->name;
        if (strncmp(name, "output.", 7) != 0) continue;
        assert_true(n < MOST_KEYS);
        keys[n++] = name + 7;
    }
    return n;
}

static void run_case(int i, GoldenRun run, double tolerance) {
    Golden t;
    LatentResnetConfig c;
    const char *keys[MOST_KEYS];
    Value features[MOST_KEYS];
    golden_open(&t, cases[i].name, cases[i].weights, "model", run);
    read_config(&t, cases[i].weights, &c);
    assert_int_equal(c.std_floor, cases[i].std_floor);
    int n = keys_of(&t, keys);
    assert_true(n > 10);
    Value latents = golden_input(&t, "latents", 0);
    assert_ok(latent_resnet_features(&t.build, &c, latents, keys, n, features, &t.err), t.err);
    for (int k = 0; k < n; k++) output(t.build.g, features[k], keys[k]);
    assert_ok(weights_finish(t.build.weights, &t.err), t.err);
    golden_run(&t, run);
    for (int k = 0; k < n; k++) golden_compare(&t, features[k], keys[k], tolerance);
    golden_close(&t);
}

static void test_reference(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case(i, GOLDEN_REF, 1e-6);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case(i, GOLDEN_CPU_FUSED, 1e-5);
}

/* Only what the deepest key needs is built, and the rest of the file is no surprise. */
static void test_stops_early(void **state) {
    (void)state;
    static const char *const keys[][2] = {
        {"layer3_mean", "layer3_blk0_mean"}, {"layer2_blk0_mean_4", "layer1"}, {"conv1", "latent"}};
    int before = 1 << 20;
    for (int i = 0; i < 3; i++) {
        Golden t;
        LatentResnetConfig c;
        Value features[2];
        golden_open(&t, "resnet_random", NULL, "model", GOLDEN_REF);
        read_config(&t, NULL, &c);
        Value latents = golden_input(&t, "latents", 0);
        assert_ok(latent_resnet_features(&t.build, &c, latents, keys[i], 2, features, &t.err), t.err);
        assert_true(graph_size(t.build.g) < before);
        before = graph_size(t.build.g);
        assert_ok(weights_finish(t.build.weights, &t.err), t.err);
        golden_close(&t);
    }
}

static int features_of(const LatentResnetConfig *c, const char *key, Shape latents, Shape *out, Error *err) {
    Arena *arena = arena_new();
    Build b = {.g = graph_new(arena)};
    Value x = input(b.g, "latents", DT_F32, latents), feature;
    int code = latent_resnet_features(&b, c, x, &key, 1, &feature, err);
    if (code == 0) *out = feature->shape;
    arena_free(arena);
    return code;
}

static void test_latent_keys_need_no_weights(void **state) {
    (void)state;
    Error err = {0};
    LatentResnetConfig c = {.stages = 0, .std_eps = 1e-6f};
    Shape s;
    assert_ok(features_of(&c, "latent_std_4", shape4(3, 4, 8, 16), &s, &err), err);
    assert_true(shape_equal(s, shape3(3, 8, 4)));
    assert_ok(features_of(&c, "latent_mean", shape4(3, 4, 8, 16), &s, &err), err);
    assert_true(shape_equal(s, shape3(3, 1, 4)));
    assert_fails(features_of(&c, "latent_std", shape4(3, 4, 8, 16), &s, &err), DRPO_E_INPUT, "square", err);
    assert_fails(features_of(&c, "latent_mean_3", shape4(3, 4, 8, 16), &s, &err), DRPO_E_INPUT, "possible: 2 4 8", err);
}

/* Both published files give what the folder gives, to the bit; a file without an encoder is refused. */
static void test_published_files(void **state) {
    (void)state;
    static const char *const files[] = {"torch.pth", "kernels.pth"};
    const char *key = "layer3_mean";
    for (int i = 0; i < 2; i++) {
        Golden t;
        LatentResnetConfig folder, file;
        Weights *w = NULL;
        Value feature;
        char path[600];
        golden_open(&t, "resnet_random", NULL, "model", GOLDEN_REF);
        read_config(&t, NULL, &folder);
        snprintf(path, sizeof path, "%s/%s", t.folder, files[i]);
        assert_ok(latent_resnet_open(path, &file, &w, &t.err), t.err);
        assert_memory_equal(&file, &folder, sizeof file);
        weights_free(t.build.weights);
        t.build.weights = w;
        Value latents = golden_input(&t, "latents", 0);
        assert_ok(latent_resnet_features(&t.build, &file, latents, &key, 1, &feature, &t.err), t.err);
        output(t.build.g, feature, key);
        assert_ok(weights_finish(w, &t.err), t.err);
        golden_run(&t, GOLDEN_REF);
        golden_compare(&t, feature, key, 1e-6);
        golden_close(&t);
    }
    Error err = {0};
    LatentResnetConfig c;
    Weights *w;
    assert_fails(latent_resnet_open(SOURCE_DIR "/tests/golden/torch_pickle/plain.pt", &c, &w, &err), DRPO_E_INPUT,
                 "encoder", err);
}

static void test_unknown_keys(void **state) {
    (void)state;
    static const char *const wrong[] = {"layer9_mean",    "layer1_blk7",  "layer0",          "latent_mean_1",
                                        "latent_mean_2x", "laten",        "latent_median",   "conv2",
                                        "layer2_blk-1",   "latent_mean_", "layer1_mean_2_4", ""};
    Error err = {0};
    LatentResnetConfig c;
    Shape s;
    assert_ok(latent_resnet_config_read(SOURCE_DIR "/tests/golden/resnet_random/config.json", &c, &err), err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(features_of(&c, wrong[i], shape4(1, 4, 8, 8), &s, &err), DRPO_E_INPUT, "layer1..layer3", err);
    assert_fails(features_of(&c, "layer1", shape4(1, 4, 8, 8), &s, &err), DRPO_E_INTERNAL, "weights", err);
}

static void test_config(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"{\"width\": [8], \"layers\": [1, 2]}", "layers"},
                                           {"{\"width\": [8]}", "layers"},
                                           {"{\"layers\": [1]}", "width"},
                                           {"{\"width\": [8], \"layers\": [1], \"groups\": {\"8\": 3}}", "groups"},
                                           {"{\"width\": [8], \"layers\": [1], \"groups\": 4}", "groups"},
                                           {"{\"width\": [8], \"layers\": [1], \"depth\": 4}", "depth"},
                                           {"{\"width\": [8], \"layers\": [1], \"std_eps\": 0}", "std_eps"}};
    char folder[512];
    Error err = {0};
    LatentResnetConfig c;
    const char *path = in_dir(fresh_dir("resnet_config", folder), "config.json");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_text(path, wrong[i][0]);
        assert_fails(latent_resnet_config_read(path, &c, &err), DRPO_E_INPUT, wrong[i][1], err);
    }
    put_text(path, "{\"width\": [40, 7], \"layers\": [3, 4]}");
    assert_ok(latent_resnet_config_read(path, &c, &err), err);
    assert_int_equal(c.groups[0], 20);
    assert_int_equal(c.groups[1], 7);
    assert_false(c.std_floor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),    cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_stops_early),  cmocka_unit_test(test_latent_keys_need_no_weights),
        cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_published_files),
        cmocka_unit_test(test_config)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
