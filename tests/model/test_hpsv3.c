/* HPSv3 and Qwen2-VL: both towers and whole scores against transformers, the shapes of the published model, sizes of
 * pictures, the order of patches, and folders that must be refused. */
#include "format/json.h"
#include "golden.h"
#include "model/hpsv3.h"

#define FOLDER SOURCE_DIR "/tests/golden/hpsv3"

/* ---- towers ---- */

static void read_config(const char *path, Qwen2VlConfig *c) {
    Error err = {0};
    assert_ok(qwen2_vl_config_read(path, c, &err), err);
}

static void run_towers(GoldenRun run, double tolerance) {
    Golden t;
    Qwen2VlConfig c;
    static float cosine[2][2048], sine[2][2048];
    golden_open(&t, "hpsv3", NULL, "HPSv3", run);
    if (run == GOLDEN_CPU_FUSED) weights_keep_stored(t.build.weights);
    read_config(FOLDER "/config.json", &c);
    Graph *g = t.build.g;
    Value patches = golden_input(&t, "patches", 0), states = golden_input(&t, "states", 0), angle[4];
    const int size[2] = {c.vision.width / c.vision.heads, c.width / c.heads};
    const int count[2] = {(int)patches->shape.dim[1], (int)states->shape.dim[1]};
    for (int i = 0; i < 4; i++)
        angle[i] = input(g, i % 2 ? "sine" : "cosine", DT_F32, shape3(count[i / 2], 1, size[i / 2]));
    Value cells = output(g, qwen2_vl_vision_build(&t.build, &c, patches, angle[0], angle[1]), "cells");
    Value decoded = output(g, qwen2_vl_text_build(&t.build, &c, states, angle[2], angle[3], false), "decoded");
    Value last = output(g, qwen2_vl_text_build(&t.build, &c, states, angle[2], angle[3], true), "last");
    golden_prepare(&t, run);
    qwen2_vl_vision_angles(&c.vision, 4, 6, cosine[0], sine[0]);
    qwen2_vl_text_angles(&c, golden_tensor(&t, "input", "position")->data, count[1], cosine[1], sine[1]);
    for (int i = 0; i < 4; i++) plan_write(t.plan, angle[i], i % 2 ? sine[i / 2] : cosine[i / 2]);
    assert_ok(plan_run(t.plan, &t.err), t.err);
    golden_compare(&t, cells, "cells", tolerance);
    golden_compare(&t, decoded, "decoded", tolerance);
    float one[64];
    plan_read(t.plan, last, one);
    const float *all = golden_tensor(&t, "output", "decoded")->data;
    assert_true(relative_error(one, all + (count[1] - 1) * c.width, (size_t)c.width) <= tolerance);
    golden_close(&t);
}

/* Angles are float32 as in the published model, so the reference backend agrees to their rounding only. */
static void towers_agree_with_transformers(void **state) {
    (void)state;
    run_towers(GOLDEN_REF, 2e-6);
    run_towers(GOLDEN_REF_FUSED, 2e-6);
    run_towers(GOLDEN_CPU_FUSED, 1e-5);
}

/* ---- scores ---- */

static void score_case(Hpsv3 *m, SafeFile *io, int i, const char *prompt, double tolerance) {
    char key[32];
    Error err = {0};
    snprintf(key, sizeof key, "input.picture.%d", i);
    const SafeTensor *picture = safetensors_find(io, key);
    snprintf(key, sizeof key, "output.score.%d", i);
    const SafeTensor *want = safetensors_find(io, key);
    assert_true(picture && want);
    const int height = (int)picture->dim[0], width = (int)picture->dim[1];
    uint8_t *rgb = malloc((size_t)(width * height * 3));
    for (int k = 0; k < width * height * 3; k++) rgb[k] = (uint8_t)((const int32_t *)picture->data)[k];
    float got[2];
    assert_ok(hpsv3_score(m, prompt, rgb, width, height, got, &err), err);
    free(rgb);
    double error = relative_error(got, want->data, 2);
    if (!(error <= tolerance)) fail_msg("score %d is off by %.3g", i, error);
}

static void scores_agree_with_transformers(void **state) {
    (void)state;
    Error err = {0};
    Backend *b = backend_cpu_new(2, &err);
    Hpsv3 *m;
    SafeFile *io;
    json_t *prompts;
    assert_non_null(b);
    assert_ok(hpsv3_open(FOLDER, NULL, b, &m, &err), err);
    assert_ok(safetensors_open(FOLDER "/io.safetensors", &io, &err), err);
    assert_ok(json_load_path(FOLDER "/prompts.json", &prompts, &err), err);
    assert_int_equal(json_array_size(prompts), 4);
    for (int i = 0; i < 4; i++) score_case(m, io, i, json_string_value(json_array_get(prompts, (size_t)i)), 1e-4);
    score_case(m, io, 0, json_string_value(json_array_get(prompts, 0)), 1e-4); /* planned anew */
    float score[2];
    const uint8_t dot[3] = {1, 2, 3};
    assert_fails(hpsv3_score(m, "a <|image_pad|> b", dot, 1, 1, score, &err), DRPO_E_INPUT, "special tokens", err);
    assert_fails(hpsv3_score(m, "<|Reward|>", dot, 1, 1, score, &err), DRPO_E_INPUT, "special tokens", err);
    json_decref(prompts);
    safetensors_close(io);
    hpsv3_free(m);
    backend_free(b);
}

/* ---- the published model ---- */

static const char PUBLISHED[] =
    "{\"model_type\": \"qwen2_vl\", \"hidden_size\": 3584, \"intermediate_size\": 18944, \"num_attention_heads\": 28, "
    "\"num_hidden_layers\": 28, \"num_key_value_heads\": 4, \"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, "
    "\"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [16, 24, 24]}, \"vision_config\": {\"depth\": 32, "
    "\"embed_dim\": 1280, \"mlp_ratio\": 4, \"num_heads\": 16, \"in_chans\": 3, \"hidden_size\": 3584, "
    "\"patch_size\": 14, \"spatial_merge_size\": 2, \"temporal_patch_size\": 2}}";

enum { MOST_TENSORS = 1024 };

typedef struct List {
    Arena *arena;
    SafeTensor tensor[MOST_TENSORS];
    size_t n;
    int64_t parameters;
    const char *vision, *text;
} List;

static void add_tensor(List *l, int rank, const int64_t dim[5], const char *prefix, const char *name,
                       const char *part) {
    SafeTensor *t = &l->tensor[l->n++];
    *t = (SafeTensor){.name = arena_printf(l->arena, "%s%s.%s", prefix, name, part), .dtype = DT_BF16, .rank = rank};
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= t->dim[i] = dim[i];
    t->bytes = 2 * (size_t)count;
    l->parameters += count;
}

static void add_linear(List *l, const char *prefix, const char *name, int64_t out, int64_t in, bool bias) {
    add_tensor(l, 2, (int64_t[]){out, in, 0, 0, 0}, prefix, name, "weight");
    if (bias) add_tensor(l, 1, (int64_t[]){out, 0, 0, 0, 0}, prefix, name, "bias");
}

static void add_norm(List *l, const char *prefix, const char *name, int64_t width, bool bias) {
    add_tensor(l, 1, (int64_t[]){width, 0, 0, 0, 0}, prefix, name, "weight");
    if (bias) add_tensor(l, 1, (int64_t[]){width, 0, 0, 0, 0}, prefix, name, "bias");
}

static void add_vision(List *l) {
    char p[64];
    add_tensor(l, 5, (int64_t[]){1280, 3, 2, 14, 14}, l->vision, "patch_embed.proj", "weight");
    for (int i = 0; i < 32; i++) {
        snprintf(p, sizeof p, "%sblocks.%d.", l->vision, i);
        add_norm(l, p, "norm1", 1280, true);
        add_norm(l, p, "norm2", 1280, true);
        add_linear(l, p, "attn.qkv", 3840, 1280, true);
        add_linear(l, p, "attn.proj", 1280, 1280, true);
        add_linear(l, p, "mlp.fc1", 5120, 1280, true);
        add_linear(l, p, "mlp.fc2", 1280, 5120, true);
    }
    add_norm(l, l->vision, "merger.ln_q", 1280, true);
    add_linear(l, l->vision, "merger.mlp.0", 5120, 5120, true);
    add_linear(l, l->vision, "merger.mlp.2", 3584, 5120, true);
}

static void add_text(List *l) {
    char p[64];
    add_linear(l, l->text, "embed_tokens", 151658, 3584, false);
    for (int i = 0; i < 28; i++) {
        snprintf(p, sizeof p, "%slayers.%d.", l->text, i);
        add_linear(l, p, "self_attn.q_proj", 3584, 3584, true);
        add_linear(l, p, "self_attn.k_proj", 512, 3584, true);
        add_linear(l, p, "self_attn.v_proj", 512, 3584, true);
        add_linear(l, p, "self_attn.o_proj", 3584, 3584, false);
        add_linear(l, p, "mlp.gate_proj", 18944, 3584, false);
        add_linear(l, p, "mlp.up_proj", 18944, 3584, false);
        add_linear(l, p, "mlp.down_proj", 3584, 18944, false);
        add_norm(l, p, "input_layernorm", 3584, false);
        add_norm(l, p, "post_attention_layernorm", 3584, false);
    }
    add_norm(l, l->text, "norm", 3584, false);
    add_linear(l, "", "lm_head", 151658, 3584, false);
    add_linear(l, "", "rm_head.0", 1024, 3584, true);
    add_linear(l, "", "rm_head.3", 16, 1024, true);
    add_linear(l, "", "rm_head.5", 2, 16, true);
}

/* Every tensor of the published file is asked for once, in its shape; nothing else is. */
static void check_published(const char *vision, const char *text) {
    Error err = {0};
    Qwen2VlConfig c;
    List *l = calloc(1, sizeof *l);
    l->arena = arena_new();
    l->vision = vision;
    l->text = text;
    add_vision(l);
    add_text(l);
    assert_int_equal(l->n, 736);
    assert_true(l->parameters > 8285000000 && l->parameters < 8295000000);
    Weights *w;
    const WeightsParts parts = {.path = "published", .tensor = l->tensor, .count = l->n, .arena = l->arena};
    assert_ok(weights_from(&parts, 0, &w, &err), err);
    read_config(PUBLISHED, &c);
    Arena *arena = arena_new();
    Build b = {.g = graph_new(arena), .weights = w};
    hpsv3_build_smallest(&b, &c);
    assert_ok(weights_finish(w, &err), err);
    assert_ok(graph_check(b.g, &err), err);
    arena_free(arena);
    weights_free(w);
    free(l);
}

static void the_published_model_fits(void **state) {
    (void)state;
    check_published("visual.", "model.");
    check_published("model.visual.", "model.language_model.");
}

/* ---- pictures ---- */

static void pictures_get_the_published_sizes(void **state) {
    (void)state;
    static const int size[][4] = {/* height, width -> height, width */
                                  {256, 256, 448, 448}, {448, 448, 448, 448},   {512, 512, 448, 448},
                                  {640, 640, 448, 448}, {1024, 1024, 448, 448}, {768, 768, 420, 420},
                                  {768, 512, 532, 364}, {1024, 576, 588, 336},  {64, 64, 448, 448}};
    Error err = {0};
    Qwen2VlConfig c;
    int w, h;
    read_config(PUBLISHED, &c);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        assert_ok(qwen2_vl_picture_size(&c.vision, 200704, size[i][1], size[i][0], &w, &h, &err), err);
        if (h != size[i][2] || w != size[i][3])
            fail_msg("%dx%d became %dx%d, not %dx%d", size[i][0], size[i][1], h, w, size[i][2], size[i][3]);
    }
    assert_fails(qwen2_vl_picture_size(&c.vision, 200704, 201, 1, &w, &h, &err), DRPO_E_INPUT, "200 times", err);
    assert_fails(qwen2_vl_picture_size(&c.vision, 4 << 20, 200, 1, &w, &h, &err), DRPO_E_INPUT, "16384", err);
}

/* A ramp: pixel (x, y) of channel c holds what its patch must hold. */
static void patches_stand_in_the_order_of_cells(void **state) {
    (void)state;
    const QwenVisionConfig c = {.width = 8, .heads = 1, .channels = 3, .patch = 2, .temporal = 2, .merge = 2};
    enum { W = 8, H = 4, NUMBERS = 3 * 2 * 2 * 2 };
    uint8_t rgb[W * H * 3];
    float patches[(W / 2) * (H / 2) * NUMBERS];
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (uint8_t)(2 * i);
    qwen2_vl_patches(&c, rgb, W, H, patches);
    static const int order[8][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}}; /* row, column */
    static const double mean[3] = {0.48145466, 0.4578275, 0.40821073}, std[3] = {0.26862954, 0.26130258, 0.27577711};
    for (int p = 0; p < 8; p++)
        for (int k = 0; k < NUMBERS; k++) {
            const int channel = k / 8, y = 2 * order[p][0] + k % 4 / 2, x = 2 * order[p][1] + k % 2;
            const double want = (rgb[(y * W + x) * 3 + channel] / 255.0 - mean[channel]) / std[channel];
            assert_true(fabs(patches[p * NUMBERS + k] - want) < 1e-5);
        }
}

/* ---- refusals ---- */

static void refuse_config(const char *text, const char *word) {
    Error err = {0};
    Qwen2VlConfig c;
    assert_fails(qwen2_vl_config_read(text, &c, &err), DRPO_E_INPUT, word, err);
}

static void wrong_folders_are_refused(void **state) {
    (void)state;
    refuse_config("{\"model_type\": \"qwen2_5_vl\", \"vision_config\": {}}", "model_type");
    refuse_config("{\"model_type\": \"qwen2_vl\"}", "vision_config");
    refuse_config("{\"vision_config\": {\"embed_dim\": 30, \"num_heads\": 4}}", "heads");
    refuse_config("{\"vision_config\": {}, \"rope_scaling\": {\"mrope_section\": [16, 24, 25]}}", "mrope_section");
    refuse_config("{\"vision_config\": {}, \"use_sliding_window\": true}", "use_sliding_window");
    Error err = {0};
    char folder[512];
    Backend *b = backend_cpu_new(1, &err);
    Hpsv3 *m;
    fresh_dir("hpsv3_questions", folder);
    const char *questions = in_dir(folder, "questions.txt");
    static const char *const wrong[][2] = {{"rate {text_prompt}", "<|Reward|>"},
                                           {"rate <|Reward|>", "{text_prompt}"},
                                           {"{text_prompt} {text_prompt} <|Reward|>", "{text_prompt}"},
                                           {"<|Reward|> {text_prompt}", "behind"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_text(questions, wrong[i][0]);
        assert_fails(hpsv3_open(FOLDER, questions, b, &m, &err), DRPO_E_INPUT, wrong[i][1], err);
    }
    assert_fails(hpsv3_open(SOURCE_DIR "/tests/golden/clip_random", NULL, b, &m, &err), DRPO_E_INPUT, "model_type",
                 err);
    backend_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(towers_agree_with_transformers),
                                       cmocka_unit_test(scores_agree_with_transformers),
                                       cmocka_unit_test(the_published_model_fits),
                                       cmocka_unit_test(pictures_get_the_published_sizes),
                                       cmocka_unit_test(patches_stand_in_the_order_of_cells),
                                       cmocka_unit_test(wrong_folders_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
