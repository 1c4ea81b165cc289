/* AutoencoderTiny's decoder against diffusers, the authors' own names, its pass, and files that must be refused. */
#include "golden.h"
#include "model/decode_pass.h"
#include "model/taesd.h"

#define CASE(name) SOURCE_DIR "/tests/golden/" name

static void run_case(const char *name, const char *path, GoldenRun run, double tolerance) {
    Golden t;
    Taesd *net;
    golden_open(&t, name, NULL, "diffusion_pytorch_model", run);
    weights_free(t.build.weights);
    assert_ok(taesd_open(path, &net, &t.err), t.err);
    t.build.weights = net->weights;
    const SafeTensor *latents = golden_tensor(&t, "input", "latents");
    const size_t n = (size_t)(latents->dim[0] * latents->dim[1] * latents->dim[2] * latents->dim[3]);
    float *bounded = malloc(n * sizeof *bounded);
    taesd_bound(&net->config, latents->data, n, bounded);
    Value x =
        input(t.build.g, "bounded", DT_F32, shape4(latents->dim[0], latents->dim[1], latents->dim[2], latents->dim[3]));
    Value y = output(t.build.g, taesd_decode(&t.build, &net->config, x), "result");
    golden_prepare(&t, run);
    plan_write(t.plan, x, bounded);
    assert_ok(plan_run(t.plan, &t.err), t.err);
    golden_compare(&t, y, "image", tolerance);
    free(bounded);
    t.build.weights = NULL;
    golden_close(&t);
    taesd_close(net);
}

static void run_all(GoldenRun run, double tolerance) {
    run_case("taesd_random", CASE("taesd_random"), run, tolerance);
    run_case("taesd_plain", CASE("taesd_plain"), run, tolerance);
}

static void test_decode(void **state) {
    (void)state;
    run_all(GOLDEN_REF, 3e-7);
    run_all(GOLDEN_REF_FUSED, 3e-7);
    run_all(GOLDEN_CPU_FUSED, 1e-5);
}

/* One file: the authors' names, and diffusers' without its config.json. */
static void test_files(void **state) {
    (void)state;
    run_case("taesd_random", CASE("taesd_random/taesd_decoder.safetensors"), GOLDEN_REF, 3e-7);
    run_case("taesd_random", CASE("taesd_random/diffusion_pytorch_model.safetensors"), GOLDEN_REF, 3e-7);
}

/* The pass takes latents as the generator gives them and rounds as the VAE's does. */
static void test_pass(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *io;
    Taesd *net;
    DecodePass *pass;
    assert_ok(safetensors_open(CASE("taesd_random/io.safetensors"), &io, &err), err);
    assert_ok(taesd_open(CASE("taesd_random"), &net, &err), err);
    assert_int_equal(taesd_factor(&net->config), 4);
    Backend *b = backend_cpu_new(1, &err);
    assert_non_null(b);
    assert_ok(decode_pass_new_taesd(net, b, 1, 4, 6, &pass, &err), err);
    void *memory = b->alloc(b, decode_pass_bytes(pass));
    assert_ok(decode_pass_bind(pass, memory, &err), err);
    enum { HEIGHT = 16, WIDTH = 24, PLANE = HEIGHT * WIDTH, COUNT = 2 };
    uint8_t *rgb = malloc(COUNT * 3 * PLANE);
    assert_ok(decode_pass_run(pass, safetensors_find(io, "input.latents")->data, COUNT, rgb, &err), err);
    const float *wanted = safetensors_find(io, "output.image")->data;
    int clipped = 0, inside = 0;
    for (int i = 0; i < COUNT; i++)
        for (int at = 0; at < 3 * PLANE; at++) {
            const float v = 127.5f * (wanted[i * 3 * PLANE + at] + 1), c = v < 0 ? 0 : v > 255 ? 255 : v;
            const int got = rgb[i * 3 * PLANE + 3 * (at % PLANE) + at / PLANE];
            assert_true(fabsf((float)got - c) < 0.51f);
            clipped += c != v;
            inside += c == v;
        }
    assert_true(clipped > 100 && inside > 100);
    free(rgb);
    decode_pass_free(pass);
    b->free(b, memory, 0);
    backend_free(b);
    taesd_close(net);
    safetensors_close(io);
}

static void test_refused(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"\"_class_name\": \"AutoencoderKL\"", "AutoencoderTiny"},
        {"\"upsample_fn\": \"bilinear\"", "upsample_fn"},
        {"\"upsampling_scaling_factor\": 3", "upsampling_scaling_factor"},
        {"\"decoder_block_out_channels\": [8, 8, 8, 16]", "decoder_block_out_channels"},
        {"\"decoder_block_out_channels\": [8, 8]", "decoder_block_out_channels"},
        {"\"shift_factor\": 0.1", "shift_factor"},
        {"\"scaling_factor\": 0", "scaling_factor"},
        {"\"tiling\": true", "tiling"},
        {"\"act_fn\": \"mish\"", "act_fn"}};
    Error err = {0};
    TaesdConfig c;
    Taesd *net;
    char folder[512], text[256];
    fresh_dir("taesd_config", folder);
    const char *path = in_dir(folder, "config.json");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "{%s}", wrong[i][0]);
        put_text(path, text);
        assert_fails(taesd_config_read(path, &c, &err), DRPO_E_INPUT, wrong[i][1], err);
    }
    put_text(path, "{}"); /* diffusers' defaults are the published network */
    assert_ok(taesd_config_read(path, &c, &err), err);
    assert_true(c.stages == 4 && c.blocks[0] == 3 && c.blocks[3] == 1 && c.width == 64 && c.latent_channels == 4);
    assert_true(c.act == ACT_RELU && c.scaling_factor == 1);
    assert_fails(taesd_open("/nowhere", &net, &err), DRPO_E_INPUT, "/nowhere", err);
    /* a file that is something else, and a folder whose weights do not fit its config */
    assert_fails(taesd_open(CASE("vae_random/model.safetensors"), &net, &err), DRPO_E_INPUT, "TAESD", err);
    assert_fails(taesd_open(CASE("vae_random"), &net, &err), DRPO_E_INPUT, "AutoencoderTiny", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_pass), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
