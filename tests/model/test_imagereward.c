/* ImageReward: both networks and whole scores against transformers' BLIP, the shapes of the published checkpoint, and
 * folders that must be refused. */
#include "format/json.h"
#include "golden.h"
#include "model/imagereward.h"

#define FOLDER SOURCE_DIR "/tests/golden/imagereward"

/* ---- networks ---- */

/* As golden_open, whose weights are safetensors. */
static void open_case(Golden *t, GoldenRun run) {
    *t = (Golden){.name = "imagereward"};
    assert_ok(safetensors_open(FOLDER "/io.safetensors", &t->io, &t->err), t->err);
    assert_ok(weights_open_file(FOLDER "/ImageReward.pt", &t->build.weights, &t->err), t->err);
    t->backend = run == GOLDEN_CPU_FUSED ? backend_cpu_new(2, &t->err) : backend_ref_new(&t->err);
    assert_non_null(t->backend);
    t->arena = arena_new();
    t->build.g = graph_new(t->arena);
}

static void run_networks(GoldenRun run, double tolerance) {
    Golden t;
    ImageRewardConfig c;
    Value states = NULL;
    open_case(&t, run);
    assert_ok(imagereward_config_read(FOLDER, t.build.weights, &c, &t.err), t.err);
    assert_true(c.image == 24 && c.patch == 8 && c.vision_layers == 2 && c.layers == 2 && c.head == 8);
    Value picture = imagereward_vision_build(&t.build, &c, golden_input(&t, "pixels", 0));
    Value value = imagereward_text_build(&t.build, &c, golden_input(&t, "ids", 0), picture, &states);
    output(t.build.g, picture, "picture");
    output(t.build.g, states, "states");
    output(t.build.g, value, "value");
    golden_run(&t, run);
    golden_compare(&t, picture, "picture", tolerance);
    golden_compare(&t, states, "states", tolerance);
    golden_compare(&t, value, "value", tolerance);
    golden_close(&t);
}

static void networks_agree_with_transformers(void **state) {
    (void)state;
    run_networks(GOLDEN_REF, 2e-7);
    run_networks(GOLDEN_REF_FUSED, 2e-7);
    run_networks(GOLDEN_CPU_FUSED, 1e-5);
}

/* ---- scores ---- */

static void score_case(ImageReward *m, SafeFile *io, int i, const char *prompt) {
    char key[32];
    Error err = {0};
    snprintf(key, sizeof key, "input.picture.%d", i);
    const SafeTensor *picture = safetensors_find(io, key);
    snprintf(key, sizeof key, "output.score.%d", i);
    const SafeTensor *want = safetensors_find(io, key);
    assert_true(picture && want);
    const int height = (int)picture->dim[0], width = (int)picture->dim[1], size = width * height * 3;
    uint8_t *rgb = malloc(2 * (size_t)size);
    for (int k = 0; k < 2 * size; k++)
        rgb[k] = (uint8_t)(((const int32_t *)picture->data)[k % size] / (k < size ? 1 : 2));
    float got[2];
    assert_ok(imagereward_score(m, prompt, rgb, 2, width, height, got, &err), err);
    free(rgb);
    const double golden = *(const float *)want->data;
    if (!(fabs(got[0] - golden) <= 1e-4 * (1 + fabs(golden))))
        fail_msg("score %d is %.7g, not %.7g", i, got[0], golden);
    assert_true(got[1] != got[0]);
}

static void scores_agree_with_transformers(void **state) {
    (void)state;
    Error err = {0};
    Backend *b = backend_cpu_new(2, &err);
    ImageReward *m;
    SafeFile *io;
    json_t *prompts;
    assert_non_null(b);
    assert_ok(imagereward_open(FOLDER, b, &m, &err), err);
    assert_ok(safetensors_open(FOLDER "/io.safetensors", &io, &err), err);
    assert_ok(json_load_path(FOLDER "/prompts.json", &prompts, &err), err);
    assert_int_equal(json_array_size(prompts), 4);
    for (int i = 0; i < 4; i++) score_case(m, io, i, json_string_value(json_array_get(prompts, (size_t)i)));
    score_case(m, io, 0, json_string_value(json_array_get(prompts, 0)));
    json_decref(prompts);
    safetensors_close(io);
    imagereward_free(m);
    backend_free(b);
}

/* ---- the published checkpoint ---- */

enum { MOST_TENSORS = 1024 };

typedef struct List {
    Arena *arena;
    SafeTensor tensor[MOST_TENSORS];
    size_t n;
    int64_t parameters;
} List;

static void add_tensor(List *l, const char *name, Shape s) {
    SafeTensor *t = &l->tensor[l->n++];
    *t = (SafeTensor){.name = arena_strdup(l->arena, name), .dtype = DT_F32, .rank = s.rank};
    for (int i = 0; i < s.rank; i++) t->dim[i] = s.dim[i];
    t->bytes = 4 * (size_t)shape_count(s);
    l->parameters += shape_count(s);
}

/* `in` 0: a norm */
static void add_layer(List *l, int64_t out, int64_t in, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void add_layer(List *l, int64_t out, int64_t in, const char *format, ...) {
    char module[128], name[160];
    va_list args;
    va_start(args, format);
    vsnprintf(module, sizeof module, format, args);
    va_end(args);
    snprintf(name, sizeof name, "%s.weight", module);
    add_tensor(l, name, in ? shape2(out, in) : shape1(out));
    snprintf(name, sizeof name, "%s.bias", module);
    add_tensor(l, name, shape1(out));
}

static void add_vision(List *l) {
    const char *f = "blip.visual_encoder.blocks.%d.%s";
    add_tensor(l, "blip.visual_encoder.cls_token", shape3(1, 1, 1024));
    add_tensor(l, "blip.visual_encoder.pos_embed", shape3(1, 197, 1024));
    add_tensor(l, "blip.visual_encoder.patch_embed.proj.weight", shape4(1024, 3, 16, 16));
    add_tensor(l, "blip.visual_encoder.patch_embed.proj.bias", shape1(1024));
    for (int i = 0; i < 24; i++) {
        add_layer(l, 1024, 0, f, i, "norm1");
        add_layer(l, 1024, 0, f, i, "norm2");
        add_layer(l, 3072, 1024, f, i, "attn.qkv");
        add_layer(l, 1024, 1024, f, i, "attn.proj");
        add_layer(l, 4096, 1024, f, i, "mlp.fc1");
        add_layer(l, 1024, 4096, f, i, "mlp.fc2");
    }
    add_layer(l, 1024, 0, "blip.visual_encoder.norm");
}

static void add_attention(List *l, int i, const char *kind, int64_t seen) {
    const char *f = "blip.text_encoder.encoder.layer.%d.%s.%s";
    add_layer(l, 768, 768, f, i, kind, "self.query");
    add_layer(l, 768, seen, f, i, kind, "self.key");
    add_layer(l, 768, seen, f, i, kind, "self.value");
    add_layer(l, 768, 768, f, i, kind, "output.dense");
    add_layer(l, 768, 0, f, i, kind, "output.LayerNorm");
}

static void add_text(List *l) {
    const char *f = "blip.text_encoder.encoder.layer.%d.%s";
    add_tensor(l, "blip.text_encoder.embeddings.word_embeddings.weight", shape2(30524, 768));
    add_tensor(l, "blip.text_encoder.embeddings.position_embeddings.weight", shape2(512, 768));
    add_layer(l, 768, 0, "blip.text_encoder.embeddings.LayerNorm");
    for (int i = 0; i < 12; i++) {
        add_attention(l, i, "attention", 768);
        add_attention(l, i, "crossattention", 1024);
        add_layer(l, 3072, 768, f, i, "intermediate.dense");
        add_layer(l, 768, 3072, f, i, "output.dense");
        add_layer(l, 768, 0, f, i, "output.LayerNorm");
    }
    add_layer(l, 256, 1024, "blip.vision_proj");
    add_layer(l, 256, 768, "blip.text_proj");
    const int64_t width[] = {768, 1024, 128, 64, 16, 1};
    const int layer[] = {0, 2, 4, 6, 7};
    for (int i = 0; i < 5; i++) add_layer(l, width[i + 1], width[i], "mlp.layers.%d", layer[i]);
}

static void the_published_checkpoint_fits(void **state) {
    (void)state;
    Error err = {0};
    ImageRewardConfig c;
    List *l = calloc(1, sizeof *l);
    l->arena = arena_new();
    add_vision(l);
    add_text(l);
    assert_true(l->parameters > 440000000 && l->parameters < 450000000);
    Weights *w;
    const WeightsParts parts = {.path = "published", .tensor = l->tensor, .count = l->n, .arena = l->arena};
    assert_ok(weights_from(&parts, 0, &w, &err), err);
    assert_ok(imagereward_config_read("/nowhere", w, &c, &err), err);
    assert_true(c.image == 224 && c.patch == 16 && c.vision_layers == 24 && c.vision_width / c.head == 16);
    assert_true(c.layers == 12 && c.width / c.head == 12 && c.mlp == 3072 && c.vocab == 30524);
    Arena *arena = arena_new();
    Build b = {.g = graph_new(arena), .weights = w};
    Value picture = imagereward_vision_build(&b, &c, input(b.g, "pixels", DT_F32, shape4(1, 3, 224, 224)));
    imagereward_text_build(&b, &c, input(b.g, "ids", DT_I32, shape2(1, 35)), picture, NULL);
    imagereward_ignore(w);
    assert_ok(weights_finish(w, &err), err);
    assert_ok(graph_check(b.g, &err), err);
    assert_true(picture->shape.dim[1] == 197);
    arena_free(arena);
    weights_free(w);
    free(l);
}

static void copy_file(const char *name, const char *folder) {
    Error err = {0};
    MappedFile file;
    assert_ok(file_map(in_dir(FOLDER, name), &file, &err), err);
    put_file(in_dir(folder, name), file.data, file.size);
    file_unmap(&file);
}

static void wrong_folders_are_refused(void **state) {
    (void)state;
    Error err = {0};
    char folder[512];
    ImageReward *m;
    Backend *b = backend_cpu_new(1, &err);
    fresh_dir("imagereward", folder);
    assert_fails(imagereward_open(folder, b, &m, &err), DRPO_E_INPUT, "ImageReward.pt", err);
    copy_file("ImageReward.pt", folder);
    assert_fails(imagereward_open(folder, b, &m, &err), DRPO_E_INPUT, "med_config.json", err); /* heads of 64 */
    put_text(in_dir(folder, "med_config.json"), "{\"num_attention_heads\": 5}");
    assert_fails(imagereward_open(folder, b, &m, &err), DRPO_E_INPUT, "heads of one width", err);
    copy_file("med_config.json", folder);
    assert_fails(imagereward_open(folder, b, &m, &err), DRPO_E_INPUT, "vocab.txt", err);
    put_text(in_dir(folder, "ImageReward.safetensors"), "no");
    assert_fails(imagereward_open(folder, b, &m, &err), DRPO_E_INPUT, "ImageReward.safetensors", err);
    backend_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_agree_with_transformers), cmocka_unit_test(scores_agree_with_transformers),
        cmocka_unit_test(the_published_checkpoint_fits), cmocka_unit_test(wrong_folders_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
