/* Checkpoints in one file: every tensor of a full-size SD-Turbo and SDXL-Turbo file is asked for exactly once by the
 * networks of the built-in configurations; values come through as diffusers' own conversion gives them. */
#include "checkpoint_file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/checkpoint_names.h"
#include "model/clip_text.h"
#include "model/model_files.h"
#include "model/single_file.h"
#include "model/unet.h"
#include "model/vae.h"

static const UnetShape SD = {320, 4, {1, 2, 4, 4}, {1, 1, 1, 0}, 1, 1024, 0};
static const UnetShape SDXL = {320, 3, {1, 2, 4}, {0, 2, 10}, 10, 2048, 2816};

static void write_sd(const char *path, const char *text, int layers, const char *extra) {
    Checkpoint c;
    checkpoint_begin(&c);
    add_unet(&c, &SD);
    add_vae(&c);
    add_open_clip(&c, text, 1024, layers);
    c.base[0] = 0;
    add_tensor(&c, "alphas_cumprod", "F32", 4, 1, (long long[]){1000});
    add_tensor(&c, "model_ema.decay", "F32", 4, 0, NULL);
    if (extra) add_tensor(&c, extra, "F32", 4, 1, (long long[]){3});
    checkpoint_end(&c, path);
}

static void write_sdxl(const char *path) {
    Checkpoint c;
    checkpoint_begin(&c);
    add_unet(&c, &SDXL);
    add_vae(&c);
    add_clip(&c, "conditioner.embedders.0.transformer.", 768, 12);
    add_open_clip(&c, "conditioner.embedders.1.model.", 1280, 32);
    c.base[0] = 0;
    add_tensor(&c, "denoiser.sigmas", "F32", 4, 1, (long long[]){1000});
    checkpoint_end(&c, path);
}

/* ---- networks of the built-in configurations ---- */

static void build_unet(Build *b, const char *document, Error *err) {
    UnetConfig c;
    assert_ok(unet_config_read(document, &c, err), *err);
    Value added = c.added_text_time ? input(b->g, "added", DT_F32, shape2(1, c.projection_input_dim)) : NULL;
    unet_build(b, &c, input(b->g, "z", DT_F32, shape4(1, 4, 64, 64)), input(b->g, "time", DT_F32, shape2(1, 320)),
               input(b->g, "text", DT_F32, shape3(1, 77, c.cross_attention_dim)), added);
}

static void build_vae(Build *b, const char *document, Error *err) {
    VaeConfig c;
    assert_ok(vae_config_read(document, &c, err), *err);
    vae_decode(b, &c, input(b->g, "z", DT_F32, shape4(1, 4, 8, 8)));
    vae_encode(b, &c, input(b->g, "image", DT_F32, shape4(1, 3, 64, 64)));
}

static void build_text(Build *b, const char *document, Error *err) {
    ClipTextConfig c;
    Value last;
    assert_ok(clip_text_config_read(document, &c, err), *err);
    clip_text_build(b, &c, input(b->g, "ids", DT_I32, shape2(1, 77)), &last, NULL);
    if (c.projection) clip_text_project(b, &c, last, input(b->g, "end", DT_F32, shape3(1, 1, 77)));
}

typedef void (*NetworkBuilder)(Build *b, const char *document, Error *err);

/* Every tensor of the component is asked for once, and none is missing. Returns how many there are. */
static size_t check_component(ModelFiles *f, const char *component, NetworkBuilder builder) {
    Error err = {0};
    Arena *arena = arena_new();
    Build b = {.g = graph_new(arena)};
    const char *document, *path = arena_printf(arena, "%s/config.json", component);
    assert_ok(model_document(f, path, &document, &err), err);
    assert_ok(model_weights(f, component, "", &b.weights, &err), err);
    builder(&b, document, &err);
    assert_ok(weights_finish(b.weights, &err), err);
    assert_ok(graph_check(b.g, &err), err);
    for (size_t i = 0; i < weights_count(b.weights); i++)
        if (weights_at(b.weights, i)->rank && !weights_at(b.weights, i)->bytes) fail_msg("an empty tensor");
    size_t n = weights_count(b.weights);
    weights_free(b.weights);
    arena_free(arena);
    return n;
}

static void check_sd(const char *path) {
    Error err = {0};
    ModelFiles *f;
    assert_ok(model_files_open(&(ModelChoice){.path = path}, &f, &err), err);
    assert_int_equal(check_component(f, "unet", build_unet), 686); /* as many as the published folder's files have */
    assert_int_equal(check_component(f, "vae", build_vae), 248);
    assert_int_equal(check_component(f, "text_encoder", build_text), 372);
    model_files_close(f);
    unlink(path);
}

static void test_sd_turbo(void **state) {
    (void)state;
    char folder[512];
    const char *path = in_dir(fresh_dir("checkpoint", folder), "sd_turbo.safetensors");
    write_sd(path, "cond_stage_model.model.", 24, NULL);
    check_sd(path);
    write_sd(path, "conditioner.embedders.0.model.", 24, NULL); /* as Stability's newer programs write it */
    check_sd(path);
    write_sd(path, "cond_stage_model.model.", 23, NULL); /* without the layer that nobody uses */
    check_sd(path);
}

static void test_sdxl_turbo(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    ModelFiles *f;
    const char *path = in_dir(fresh_dir("checkpoint", folder), "sd_xl_turbo_1.0.safetensors");
    write_sdxl(path);
    assert_ok(model_files_open(&(ModelChoice){.path = path}, &f, &err), err);
    assert_int_equal(check_component(f, "unet", build_unet), 1680);
    assert_int_equal(check_component(f, "vae", build_vae), 248);
    assert_int_equal(check_component(f, "text_encoder", build_text), 196);
    assert_int_equal(check_component(f, "text_encoder_2", build_text), 517);
    model_files_close(f);
    unlink(path);
}

/* ---- values ---- */

/* The checkpoint of the golden case was converted by diffusers: names, shapes, and the hash of every tensor's bytes. */
static void test_values(void **state) {
    (void)state;
    static const char *const components[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    const char *path = SOURCE_DIR "/tests/golden/single_file/checkpoint.safetensors";
    Error err = {0};
    json_t *wanted;
    Family family;
    assert_ok(json_load_path(SOURCE_DIR "/tests/golden/single_file/converted.json", &wanted, &err), err);
    assert_ok(single_file_family(path, &family, &err), err);
    assert_int_equal(family, FAMILY_SDXL_TURBO);
    for (size_t c = 0; c < 4; c++) {
        Weights *w;
        const json_t *list = json_object_get(wanted, components[c]);
        assert_ok(single_file_weights(path, family, components[c], 0, &w, &err), err);
        assert_int_equal(weights_count(w), json_object_size(list));
        for (size_t i = 0; i < weights_count(w); i++) {
            const SafeTensor *t = weights_at(w, i);
            char text[256] = "", hash[65];
            for (int d = 0; d < t->rank; d++)
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", d ? "x" : "", (int)t->dim[d]);
            sha256_hex(t->data, t->bytes, hash);
            snprintf(text + strlen(text), sizeof text - strlen(text), " %.8s", hash);
            const char *expected = json_string_value(json_object_get(list, t->name));
            if (!expected || strcmp(expected, text) != 0)
                fail_msg("%s: %s is %s, diffusers gives %s", components[c], t->name, text,
                         expected ? expected : "no such name");
        }
        weights_free(w);
    }
    json_decref(wanted);
}

/* ---- what is no such file ---- */

static int open_only(const char *path, const char *tensor, Error *err) {
    Checkpoint c;
    ModelFiles *f;
    checkpoint_begin(&c);
    ADD(&c, tensor, 4);
    checkpoint_end(&c, path);
    return model_files_open(&(ModelChoice){.path = path}, &f, err);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *tensor, *message;
    } cases[] = {{"lora_unet_x.lora_down.weight", "is an adapter; give it with --lora"},
                 {"conv_in.weight", "one part of a model"},
                 {"cond_stage_model.transformer.text_model.x", "Stable Diffusion 1;"},
                 {"double_blocks.0.x", "another family"},
                 {"model.diffusion_model.input_blocks.0.0.weight", "without its VAE"},
                 {"x", "no checkpoint with UNet"}};
    char folder[512];
    Error err = {0};
    ModelFiles *f;
    Weights *w;
    const char *path = in_dir(fresh_dir("checkpoint", folder), "x.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(open_only(path, cases[i].tensor, &err), DRPO_E_INPUT, cases[i].message, err);
    const char *pickle = in_dir(folder, "x.ckpt");
    assert_fails(open_only(pickle, "x", &err), DRPO_E_INPUT, "a pickle", err);
    put_text(path, "version https://git-lfs.github.com/spec/v1\n");
    assert_fails(model_files_open(&(ModelChoice){.path = path}, &f, &err), DRPO_E_INPUT, "git-lfs pointer", err);
    write_sd(path, "cond_stage_model.model.", 24, "model.diffusion_model.input_blocks.4.0.strange");
    assert_fails(single_file_weights(path, FAMILY_SD_TURBO, "unet", 23, &w, &err), DRPO_E_INPUT, "0.strange'", err);
    assert_ok(model_files_open(&(ModelChoice){.path = path}, &f, &err), err);
    const char *tokenizer;
    setenv("HF_HUB_CACHE", folder, 1);
    assert_fails(model_tokenizer_folder(f, "tokenizer", &tokenizer, &err), DRPO_E_INPUT,
                 "hf download stabilityai/sd-turbo --include \"tokenizer*\"", err);
    put_text(in_dir(folder, "vocab.json"), "{}");
    assert_ok(model_tokenizer_folder(f, "tokenizer", &tokenizer, &err), err); /* beside the file */
    assert_string_equal(tokenizer, folder);
    model_files_close(f);
    assert_fails(model_files_open(&(ModelChoice){.path = path, .variant = "fp16"}, &f, &err), DRPO_E_USAGE,
                 "belongs to a folder", err);
    unlink(path);
    put_text(in_dir(folder, "sd_turbo.safetensors"), "");
    assert_fails(model_files_open(&(ModelChoice){.path = folder}, &f, &err), DRPO_E_INPUT, "read that with --model",
                 err);
}

static void test_names(void **state) {
    (void)state;
    const CheckpointShape shape = {4, 0, false};
    CheckpointName n;
    assert_true(checkpoint_name("first_stage_model.decoder.up.3.block.2.nin_shortcut.weight", &shape, &n));
    assert_string_equal(n.name[0], "decoder.up_blocks.0.resnets.2.conv_shortcut.weight");
    assert_true(checkpoint_name("cond_stage_model.model.transformer.resblocks.7.attn.in_proj_bias", &shape, &n));
    assert_int_equal(n.parts, 3);
    assert_string_equal(n.name[2], "text_model.encoder.layers.7.self_attn.v_proj.bias");
    static const char *const wrong[] = {"",
                                        "unet.x",
                                        "model.diffusion_model.",
                                        "model.diffusion_model.input_blocks.0.1.x",
                                        "model.diffusion_model.input_blocks.x.0.op.weight",
                                        "first_stage_model.decoder.up.9.block.0.conv1.weight",
                                        "model.diffusion_model.middle_block.0.in_layers.9.weight"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (checkpoint_name(wrong[i], &shape, &n)) fail_msg("'%s' has a new name", wrong[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sd_turbo), cmocka_unit_test(test_sdxl_turbo),
                                       cmocka_unit_test(test_values), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
