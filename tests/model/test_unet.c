/* The UNet against diffusers: every option that is read, every block's output; and configs that must be refused. */
#include "golden.h"
#include "model/unet.h"

static const struct {
    const char *name, *weights, *stem;
} cases[] = {{"unet_tiny", SOURCE_DIR "/tests/fixtures/tiny-turbo/unet", "diffusion_pytorch_model"},
             {"unet_sd", NULL, "model"},
             {"unet_sdxl", NULL, "model"},
             {"unet_conv_proj", NULL, "model"},
             {"unet_plain_mid", NULL, "model"}};
enum { CASES = sizeof cases / sizeof *cases, MAX_TAPS = 24 };

static void read_config(Golden *t, const char *weights, UnetConfig *c) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", weights ? weights : t->folder);
    assert_ok(unet_config_read(path, c, &t->err), t->err);
}

/* Nodes that unet_build names after blocks; marked as outputs so that their buffers survive. */
static int tap_blocks(Graph *g, Value taps[MAX_TAPS]) {
    int n = 0;
    for (int i = 0; i < graph_size(g); i++) {
        Value x = graph_node(g, i);
        if (x->op == OP_INPUT || x->op == OP_PARAM || !x->name || !strstr(x->name, "block")) continue;
        assert_true(n < MAX_TAPS);
        taps[n++] = output(g, x, x->name);
    }
    return n;
}

static void take_backend(Golden *t, Backend *b) {
    assert_non_null(b);
    backend_free(t->backend);
    t->backend = b;
}

/* `cpu`: options of the backend; NULL: those of the run. */
static void run_case_on(int i, GoldenRun run, const CpuOptions *cpu, double tolerance) {
    Golden t;
    UnetConfig c;
    golden_open(&t, cases[i].name, cases[i].weights, cases[i].stem, run);
    if (cpu) take_backend(&t, backend_cpu_open(cpu, &t.err));
    read_config(&t, cases[i].weights, &c);
    Value latents = golden_input(&t, "latents", 0), time = golden_input(&t, "time", 0),
          text = golden_input(&t, "text", 0);
    Value added = c.added_text_time ? golden_input(&t, "added", 0) : NULL;
    Value noise = unet_build(&t.build, &c, latents, time, text, added);
    assert_ok(graph_check(t.build.g, &t.err), t.err);
    output(t.build.g, noise, "noise");
    Value taps[MAX_TAPS];
    int n = run == GOLDEN_REF ? tap_blocks(t.build.g, taps) : 0;
    assert_ok(weights_finish(t.build.weights, &t.err), t.err);
    golden_run(&t, run);
    if (run == GOLDEN_REF) assert_int_equal(n, 2 * c.blocks + 1);
    for (int k = 0; k < n; k++) golden_compare(&t, taps[k], taps[k]->name, tolerance);
    golden_compare(&t, noise, "noise", tolerance);
    golden_close(&t);
}

static void run_case(int i, GoldenRun run, double tolerance) { run_case_on(i, run, NULL, tolerance); }

static void test_reference(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case(i, GOLDEN_REF, 2e-7);
}

static void test_reference_fused(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case(i, GOLDEN_REF_FUSED, 2e-7);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case(i, GOLDEN_CPU_FUSED, 1e-5);
}

/* Without Winograd's method: closer still. */
static void test_cpu_exact(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) run_case_on(i, GOLDEN_CPU_FUSED, &(CpuOptions){.threads = 2, .exact = true}, 1e-5);
}

/* Factors of eight bits: no further off than PyTorch's bfloat16 autocast, whose noise of unet_tiny differs from
 * float32's by 0.0483 and that of unet_sd by 0.0204. */
static void test_cpu_bf16(void **state) {
    (void)state;
    if (backend_cpu_bf16() == BF16_NONE) skip();
    for (int i = 0; i < CASES; i++)
        for (int exact = 0; exact < 2; exact++)
            run_case_on(i, GOLDEN_CPU_FUSED, &(CpuOptions){.threads = 2, .bf16 = true, .exact = exact},
                        i == 0 ? 5e-4 : 1e-2);
}

/* Text of one row stands for all candidates, and its keys and values are computed once. */
static void test_shared_text(void **state) {
    (void)state;
    float *noise[2];
    size_t count = 4 * 16 * 16;
    for (int shared = 0; shared < 2; shared++) {
        Golden t;
        UnetConfig c;
        golden_open(&t, "unet_tiny", cases[0].weights, cases[0].stem, GOLDEN_REF);
        read_config(&t, cases[0].weights, &c);
        Value latents = golden_input(&t, "latents", 0), time = golden_input(&t, "time", 0);
        Value text = golden_input(&t, "text", shared ? 1 : 2);
        Value y = output(t.build.g, unet_build(&t.build, &c, latents, time, text, NULL), "noise");
        int narrow = 0;
        for (int i = 0; i < graph_size(t.build.g); i++) {
            Value x = graph_node(t.build.g, i);
            if (x->op == OP_LINEAR && x->shape.rank == 3 && x->shape.dim[1] == text->shape.dim[1])
                narrow += x->shape.dim[0] == 1;
        }
        if (shared) assert_true(narrow >= 2);
        golden_run(&t, GOLDEN_REF);
        noise[shared] = malloc(2 * count * sizeof(float));
        plan_read(t.plan, y, noise[shared]);
        golden_close(&t);
    }
    assert_true(relative_error(noise[1], noise[0], count) < 1e-6);
    assert_true(relative_error(noise[1] + count, noise[0] + count, count) > 1e-3); /* its own text was another */
    free(noise[0]);
    free(noise[1]);
}

static void test_timestep_embedding(void **state) {
    (void)state;
    Error err = {0};
    for (int i = 0; i < CASES; i++) {
        Golden t = {.name = cases[i].name};
        snprintf(t.folder, sizeof t.folder, "%s/tests/golden/%s", SOURCE_DIR, cases[i].name);
        assert_ok(safetensors_open(in_dir(t.folder, "io.safetensors"), &t.io, &err), err);
        UnetConfig c;
        read_config(&t, cases[i].weights, &c);
        const SafeTensor *wanted = golden_tensor(&t, "input", "time");
        float step, got[512];
        memcpy(&step, golden_tensor(&t, "input", "timestep")->data, sizeof step);
        timestep_embedding(step, c.channels[0], c.flip_sin_to_cos, (float)c.freq_shift, got);
        assert_true(relative_error(got, wanted->data, (size_t)c.channels[0]) < 1e-5);
        safetensors_close(t.io);
    }
}

/* ---- configs ---- */

static const char BASE[] =
    "\"block_out_channels\": [8, 16], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"], "
    "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"norm_num_groups\": 4, "
    "\"attention_head_dim\": 2";

static int read_with(const char *extra, UnetConfig *c, Error *err) {
    char folder[512], text[1024];
    fresh_dir("unet_config", folder);
    snprintf(text, sizeof text, "{%s%s%s}", BASE, extra[0] ? ", " : "", extra);
    put_text(in_dir(folder, "config.json"), text);
    return unet_config_read(in_dir(folder, "config.json"), c, err);
}

static void test_config_defaults(void **state) {
    (void)state;
    UnetConfig c;
    Error err = {0};
    assert_ok(read_with("\"_note\": [1], \"upcast_attention\": null, \"dropout\": 0.0", &c, &err), err);
    assert_int_equal(c.blocks, 2);
    assert_int_equal(c.layers[1], 2);
    assert_int_equal(c.heads[0], 2);
    assert_true(!c.down_cross[0] && c.down_cross[1] && c.up_cross[0] && !c.up_cross[1] && c.mid_cross);
    assert_int_equal(c.act, ACT_SILU);
}

static void test_config_refusals(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"\"dual_cross_attention\": true", "dual_cross_attention"},
                                           {"\"new_option\": 1", "new_option"},
                                           {"\"dropout\": 0.1", "dropout"},
                                           {"\"class_embed_type\": \"timestep\"", "class_embed_type"},
                                           {"\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"", "mid_block_type"},
                                           {"\"layers_per_block\": [1, 2, 3]", "layers_per_block"},
                                           {"\"layers_per_block\": 99", "layers_per_block"},
                                           {"\"cross_attention_dim\": [8, 16]", "cross_attention_dim"},
                                           {"\"num_attention_heads\": 3", "num_attention_heads"},
                                           {"\"act_fn\": \"mish\"", "act_fn"},
                                           {"\"norm_eps\": 0", "norm_eps"},
                                           {"\"addition_embed_type\": \"image\"", "addition_embed_type"},
                                           {"\"addition_embed_type\": \"text_time\"", "addition_time_embed_dim"},
                                           {"\"downsample_padding\": 2", "downsample_padding"},
                                           {"\"in_channels\": \"four\"", "in_channels"}};
    UnetConfig c;
    Error err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(read_with(wrong[i][0], &c, &err), DRPO_E_INPUT, wrong[i][1], err);
}

static void test_sizes(void **state) {
    (void)state;
    Golden t;
    UnetConfig c;
    golden_open(&t, "unet_tiny", cases[0].weights, cases[0].stem, GOLDEN_REF);
    read_config(&t, cases[0].weights, &c);
    Value latents = input(t.build.g, "latents", DT_F32, shape4(1, 4, 18, 16));
    assert_null(unet_build(&t.build, &c, latents, golden_input(&t, "time", 0), golden_input(&t, "text", 0), NULL));
    assert_fails(graph_check(t.build.g, &t.err), DRPO_E_INPUT, "multiple of 4", t.err);
    golden_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference),
                                       cmocka_unit_test(test_reference_fused),
                                       cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_cpu_exact),
                                       cmocka_unit_test(test_cpu_bf16),
                                       cmocka_unit_test(test_shared_text),
                                       cmocka_unit_test(test_timestep_embedding),
                                       cmocka_unit_test(test_config_defaults),
                                       cmocka_unit_test(test_config_refusals),
                                       cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
