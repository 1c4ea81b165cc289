/* The VAE's two halves against diffusers, the older layer names, and configs that must be refused. */
#include "golden.h"
#include "model/vae.h"

static const struct {
    const char *name, *weights, *stem;
} cases[] = {{"vae_tiny", SOURCE_DIR "/tests/fixtures/tiny-turbo/vae", "diffusion_pytorch_model"},
             {"vae_random", NULL, "model"},
             {"vae_plain", NULL, "model"}};
enum { CASES = sizeof cases / sizeof *cases };

static void read_config(Golden *t, const char *weights, VaeConfig *c) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", weights ? weights : t->folder);
    assert_ok(vae_config_read(path, c, &t->err), t->err);
}

static void run_case(const char *name, const char *weights, const char *stem, bool decode, GoldenRun run,
                     double tolerance) {
    Golden t;
    VaeConfig c;
    golden_open(&t, name, weights, stem, run);
    read_config(&t, weights, &c);
    Value x = golden_input(&t, decode ? "latents" : "image", 0);
    Value y = decode ? vae_decode(&t.build, &c, x) : vae_encode(&t.build, &c, x);
    assert_ok(graph_check(t.build.g, &t.err), t.err);
    output(t.build.g, y, "result");
    Error err = {0};
    assert_true(weights_finish(t.build.weights, &err) < 0); /* the other half is still unaccounted for */
    if (decode)
        vae_ignore_encoder(t.build.weights);
    else
        vae_ignore_decoder(t.build.weights);
    assert_ok(weights_finish(t.build.weights, &t.err), t.err);
    golden_run(&t, run);
    golden_compare(&t, y, decode ? "image" : "moments", tolerance);
    golden_close(&t);
}

static void run_all(bool decode, GoldenRun run, double tolerance) {
    for (int i = 0; i < CASES; i++) run_case(cases[i].name, cases[i].weights, cases[i].stem, decode, run, tolerance);
}

static void test_decode_reference(void **state) {
    (void)state;
    run_all(true, GOLDEN_REF, 2e-7);
    run_all(true, GOLDEN_REF_FUSED, 2e-7);
}

static void test_encode_reference(void **state) {
    (void)state;
    run_all(false, GOLDEN_REF, 2e-7);
}

static void test_cpu(void **state) {
    (void)state;
    run_all(true, GOLDEN_CPU_FUSED, 1e-5);
    run_all(false, GOLDEN_CPU_FUSED, 1e-5);
}

/* The same file with the attention layers under the names of old checkpoints. */
static void test_legacy_names(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
    char folder[512];
    Error err = {0};
    SafeFile *f;
    fresh_dir("vae_legacy", folder);
    assert_ok(safetensors_open(SOURCE_DIR "/tests/golden/vae_random/model.safetensors", &f, &err), err);
    size_t n = safetensors_count(f), renamed = 0;
    SafeTensor *tensor = calloc(n, sizeof *tensor);
    char(*text)[256] = calloc(n, sizeof *text);
    for (size_t i = 0; i < n; i++) {
        tensor[i] = *safetensors_at(f, i);
        for (int k = 0; k < 4; k++) {
            const char *at = strstr(tensor[i].name, names[k][0]);
            if (!at) continue;
            snprintf(text[i], sizeof text[i], "%.*s%s%s", (int)(at - tensor[i].name), tensor[i].name, names[k][1],
                     at + strlen(names[k][0]));
            tensor[i].name = text[i];
            renamed++;
            break;
        }
    }
    assert_int_equal(renamed, 16);
    assert_ok(safetensors_write(in_dir(folder, "model.safetensors"), tensor, n, NULL, 0, &err), err);
    free(tensor);
    free(text);
    safetensors_close(f);
    MappedFile config;
    assert_ok(file_map(SOURCE_DIR "/tests/golden/vae_random/config.json", &config, &err), err);
    put_file(in_dir(folder, "config.json"), config.data, config.size);
    file_unmap(&config);
    run_case("vae_random", folder, "model", true, GOLDEN_REF, 2e-7);
}

static void test_config(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"\"latents_mean\": [0]", "latents_mean"},
        {"\"tiling\": true", "tiling"},
        {"\"norm_num_groups\": 3", "norm_num_groups"},
        {"\"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\"]", "down_block_types"},
        {"\"scaling_factor\": 0", "scaling_factor"},
        {"\"act_fn\": \"mish\"", "act_fn"}};
    Error err = {0};
    VaeConfig c;
    char folder[512], text[1024];
    fresh_dir("vae_config", folder);
    const char *path = in_dir(folder, "config.json");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *down = strstr(wrong[i][0], "down_block_types")
                               ? ""
                               : "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], ";
        const char *groups = strstr(wrong[i][0], "norm_num_groups") ? "" : "\"norm_num_groups\": 4, ";
        snprintf(text, sizeof text,
                 "{\"block_out_channels\": [8, 16], %s%s\"up_block_types\": [\"UpDecoderBlock2D\", "
                 "\"UpDecoderBlock2D\"], %s}",
                 down, groups, wrong[i][0]);
        put_text(path, text);
        assert_fails(vae_config_read(path, &c, &err), DRPO_E_INPUT, wrong[i][1], err);
    }
    assert_ok(vae_config_read(SOURCE_DIR "/tests/golden/vae_plain/config.json", &c, &err), err);
    assert_int_equal(vae_factor(&c), 2);
    assert_true(fabsf(c.shift_factor - 0.1f) < 1e-7f && !c.mid_attention && !c.use_quant_conv);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode_reference), cmocka_unit_test(test_encode_reference),
                                       cmocka_unit_test(test_cpu), cmocka_unit_test(test_legacy_names),
                                       cmocka_unit_test(test_config)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
