/* The text encoder against transformers, the position of the pooled state, and configs that must be refused. */
#include "golden.h"
#include "model/clip_text.h"

#define TINY SOURCE_DIR "/tests/fixtures/tiny-turbo/text_encoder"

static void run_case(const char *name, const char *weights, GoldenRun run, double tolerance) {
    Golden t;
    ClipTextConfig c;
    char path[600];
    Value last, penultimate, pooled = NULL, at_end = NULL;
    golden_open(&t, name, weights, "model", run);
    snprintf(path, sizeof path, "%s/config.json", weights ? weights : t.folder);
    assert_ok(clip_text_config_read(path, &c, &t.err), t.err);
    Value ids = golden_input(&t, "ids", 0);
    int64_t n = ids->shape.dim[0], tokens = ids->shape.dim[1];
    clip_text_build(&t.build, &c, ids, &last, &penultimate);
    if (c.projection) {
        at_end = input(t.build.g, "at_end", DT_F32, shape3(n, 1, tokens));
        pooled = clip_text_project(&t.build, &c, last, at_end);
    }
    assert_ok(graph_check(t.build.g, &t.err), t.err);
    assert_ok(weights_finish(t.build.weights, &t.err), t.err);
    output(t.build.g, last, "last");
    output(t.build.g, penultimate, "penultimate");
    if (pooled) output(t.build.g, pooled, "pooled");
    golden_run(&t, run);
    if (pooled) { /* golden_run ran without it; once more with the rows that say where the text ends */
        const int32_t *id = golden_tensor(&t, "input", "ids")->data;
        float *rows = calloc((size_t)(n * tokens), sizeof *rows);
        for (int64_t i = 0; i < n; i++) clip_text_find_end(&c, id + i * tokens, (int)tokens, rows + i * tokens);
        plan_write(t.plan, ids, id);
        plan_write(t.plan, at_end, rows);
        assert_ok(plan_run(t.plan, &t.err), t.err);
        golden_compare(&t, pooled, "pooled", tolerance);
        free(rows);
    }
    golden_compare(&t, last, "last", tolerance);
    golden_compare(&t, penultimate, "penultimate", tolerance);
    golden_close(&t);
}

static void test_reference(void **state) {
    (void)state;
    for (int run = GOLDEN_REF; run <= GOLDEN_REF_FUSED; run++) {
        run_case("clip_tiny", TINY, run, 2e-7);
        run_case("clip_random", NULL, run, 2e-7);
    }
}

static void test_cpu(void **state) {
    (void)state;
    run_case("clip_tiny", TINY, GOLDEN_CPU_FUSED, 1e-5);
    run_case("clip_random", NULL, GOLDEN_CPU_FUSED, 1e-5);
}

/* A prompt may be shorter than the position table; longer is a mistake that names the limit. */
static void test_lengths(void **state) {
    (void)state;
    for (int tokens = 1; tokens <= 12; tokens += 11) {
        Golden t;
        ClipTextConfig c;
        Value last;
        golden_open(&t, "clip_random", NULL, "model", GOLDEN_REF);
        assert_ok(clip_text_config_read(SOURCE_DIR "/tests/golden/clip_random/config.json", &c, &t.err), t.err);
        clip_text_build(&t.build, &c, input(t.build.g, "ids", DT_I32, shape2(1, tokens)), &last, NULL);
        if (tokens <= c.positions)
            assert_ok(graph_check(t.build.g, &t.err), t.err);
        else
            assert_true(graph_check(t.build.g, &t.err) < 0 && strstr(t.err.text, "max_position_embeddings is 11"));
        golden_close(&t);
    }
}

static void expect_end(int eos, const int32_t ids[6], int want) {
    ClipTextConfig c = {.eos_id = eos};
    float row[6];
    clip_text_find_end(&c, ids, 6, row);
    for (int i = 0; i < 6; i++) assert_true(row[i] == (i == want ? 1 : 0));
}

static void test_end(void **state) {
    (void)state;
    expect_end(9, (const int32_t[]){8, 3, 9, 9, 9, 9}, 2);
    expect_end(9, (const int32_t[]){8, 3, 4, 9, 0, 0}, 3);
    expect_end(9, (const int32_t[]){8, 3, 4, 5, 6, 7}, 0); /* none: transformers takes the first */
    expect_end(2, (const int32_t[]){8, 3, 9, 9, 0, 0}, 2); /* old configs: the largest id */
}

static void test_config(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"\"hidden_act\": \"mish\"", "hidden_act"},
                                           {"\"hidden_size\": 30, \"num_attention_heads\": 4", "num_attention_heads"},
                                           {"\"num_hidden_layers\": 0", "num_hidden_layers"},
                                           {"\"layer_norm_eps\": 0", "layer_norm_eps"},
                                           {"\"hidden_size\": \"wide\"", "hidden_size"},
                                           {"\"model_type\": \"t5\"", "model_type"},
                                           {"\"architectures\": [\"CLIPModel\"]", "architectures"}};
    Error err = {0};
    ClipTextConfig c;
    char folder[512], text[256];
    fresh_dir("clip_config", folder);
    const char *path = in_dir(folder, "config.json");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "{%s}", wrong[i][0]);
        put_text(path, text);
        assert_fails(clip_text_config_read(path, &c, &err), DRPO_E_INPUT, wrong[i][1], err);
    }
    put_text(path, "{\"architectures\": [\"CLIPTextModel\"], \"id2label\": {\"0\": \"x\"}}");
    assert_ok(clip_text_config_read(path, &c, &err), err);
    assert_true(c.width == 512 && c.layers == 12 && c.heads == 8 && c.act == ACT_QUICK_GELU && !c.projection);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_lengths), cmocka_unit_test(test_end),
                                       cmocka_unit_test(test_config)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
