/* LoRA files of every layout, by others and by us, there and back; and files that must be refused. */
#include "format/json.h"
#include "lora_unet.h"

/* ---- files by others ---- */

static void test_files_of_others(void **state) {
    (void)state;
    static const char *const paths[] = {
        GOLDEN_DIR "/lora/peft", GOLDEN_DIR "/lora/peft/adapter_model.safetensors", GOLDEN_DIR "/lora/diffusers",
        GOLDEN_DIR "/lora/diffusers/pytorch_lora_weights.safetensors", GOLDEN_DIR "/lora/kohya/adapter.safetensors"};
    Adapter *known = known_modules("unet_sd");
    Error err = {0};
    SafeFile *io;
    assert_ok(safetensors_open(GOLDEN_DIR "/lora/io.safetensors", &io, &err), err);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        Adapter *a;
        assert_ok(lora_read(paths[i], 1, known, &a, &err), err);
        LoraPair *special = lora_find(a, SPECIAL_MODULE);
        assert_int_equal(special->rank, 2);
        assert_true(fabsf(special->scale - 3.5f) < 1e-6f);
        float *noise = adapted_noise(a, NULL);
        double error = relative_error(noise, safetensors_find(io, "output.noise")->data, NOISE);
        if (!(error < 1e-6)) fail_msg("%s: noise differs by %g", paths[i], error);
        free(noise);
        lora_free(a);
    }
    Adapter *half;
    assert_ok(lora_read(paths[0], 0.5f, known, &half, &err), err);
    assert_true(fabsf(lora_find(half, SPECIAL_MODULE)->scale - 1.75f) < 1e-6f);
    lora_free(half);
    safetensors_close(io);
    lora_free(known);
}

/* ---- names ---- */

static int64_t in_of(const Adapter *known, const char *module, int64_t *out) {
    const LoraPair *p = lora_find((Adapter *)known, module);
    assert_non_null(p);
    *out = p->out;
    return p->in;
}

/* A file with one pair of rank 1 under two given keys, plus an extra tensor if `extra` is not NULL. */
static int read_keys(const Adapter *known, const char *module, const char *down, const char *up, const char *extra,
                     float value, Adapter **a, Error *err) {
    char folder[512];
    float block[512];
    int64_t out, in = in_of(known, module, &out);
    for (int i = 0; i < 512; i++) block[i] = value;
    assert_true(in <= 512 && out <= 512);
    const SafeTensor tensors[] = {{down, DT_F32, 2, {1, in}, block, (size_t)in * 4},
                                  {up ? up : "", DT_F32, 2, {out, 1}, block, (size_t)out * 4},
                                  {extra ? extra : "", DT_F32, 0, {0}, block, 4}};
    size_t n = up ? extra ? 3 : 2 : 1;
    const char *path = in_dir(fresh_dir("lora_keys", folder), "x.safetensors");
    assert_ok(safetensors_write(path, tensors, n, NULL, 0, err), *err);
    return lora_read(path, 1, known, a, err);
}

static void test_spellings(void **state) {
    (void)state;
    static const char *const sd[][3] = {
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "unet.mid_block.attentions.0.proj_in.lora_B.weight",
         "mid_block.attentions.0.proj_in"},
        {"unet.mid_block.attentions.0.proj_in.lora.down.weight", "unet.mid_block.attentions.0.proj_in.lora.up.weight",
         "mid_block.attentions.0.proj_in"},
        {"mid_block.attentions.0.proj_in.lora_A.default.weight", "mid_block.attentions.0.proj_in.lora_B.default.weight",
         "mid_block.attentions.0.proj_in"},
        {"unet.mid_block.attentions.0.transformer_blocks.1.attn2.processor.to_out_lora.down.weight",
         "unet.mid_block.attentions.0.transformer_blocks.1.attn2.processor.to_out_lora.up.weight",
         "mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0"},
        {"lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
         "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj.lora_up.weight",
         "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj"},
        {"diffusion_model.mid_block.attentions.0.proj_in.lora_A.weight",
         "diffusion_model.mid_block.attentions.0.proj_in.lora_B.weight", "mid_block.attentions.0.proj_in"},
        {"lora_unet_time_embedding_linear_2.lora_down.weight", "lora_unet_time_embedding_linear_2.lora_up.weight",
         "time_embedding.linear_2"}};
    static const char *const sdxl[][3] = {
        {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight", "lora_unet_input_blocks_4_1_proj_in.lora_up.weight",
         "down_blocks.1.attentions.0.proj_in"},
        {"lora_unet_input_blocks_8_1_transformer_blocks_2_attn1_to_out_0.lora_down.weight",
         "lora_unet_input_blocks_8_1_transformer_blocks_2_attn1_to_out_0.lora_up.weight",
         "down_blocks.2.attentions.1.transformer_blocks.2.attn1.to_out.0"},
        {"diffusion_model.middle_block.1.proj_out.lora_A.weight",
         "diffusion_model.middle_block.1.proj_out.lora_B.weight", "mid_block.attentions.0.proj_out"},
        {"diffusion_model.output_blocks.5.1.proj_in.lora_A.weight",
         "diffusion_model.output_blocks.5.1.proj_in.lora_B.weight", "up_blocks.1.attentions.2.proj_in"},
        {"lora_unet_output_blocks_7_0_emb_layers_1.lora_down.weight",
         "lora_unet_output_blocks_7_0_emb_layers_1.lora_up.weight", "up_blocks.2.resnets.1.time_emb_proj"},
        {"lora_unet_label_emb_0_2.lora_down.weight", "lora_unet_label_emb_0_2.lora_up.weight",
         "add_embedding.linear_2"}};
    Error err = {0};
    for (int xl = 0; xl < 2; xl++) {
        Adapter *known = known_modules(xl ? "unet_sdxl" : "unet_sd");
        size_t n = xl ? sizeof sdxl / sizeof *sdxl : sizeof sd / sizeof *sd;
        for (size_t i = 0; i < n; i++) {
            const char *const *row = xl ? sdxl[i] : sd[i];
            Adapter *a;
            assert_ok(read_keys(known, row[2], row[0], row[1], NULL, 1, &a, &err), err);
            assert_int_equal(a->n_pair, 1);
            assert_string_equal(a->pair[0].module, row[2]);
            assert_true(a->pair[0].scale == 1); /* no alpha: alpha = rank */
            lora_free(a);
        }
        lora_free(known);
    }
}

static void test_wrong_keys(void **state) {
    (void)state;
    static const char down[] = "unet.mid_block.attentions.0.proj_in.lora_A.weight",
                      up[] = "unet.mid_block.attentions.0.proj_in.lora_B.weight";
    static const char module[] = "mid_block.attentions.0.proj_in";
    Adapter *known = known_modules("unet_sd"), *a;
    Error err = {0};
    assert_fails(read_keys(known, module, down, NULL, NULL, 1, &a, &err), DRPO_E_INPUT, "half of its pair", err);
    assert_fails(read_keys(known, module, down, "unet.mid_block.attentions.7.proj_in.lora_B.weight", NULL, 1, &a, &err),
                 DRPO_E_INPUT, "attentions.7", err);
    assert_fails(read_keys(known, module, down, up, "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", 1, &a, &err),
                 DRPO_E_INPUT, "text encoder", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.dora_scale", 1, &a, &err),
                 DRPO_E_INPUT, "dora_scale", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.lora.up.weight", 1, &a, &err),
                 DRPO_E_INPUT, "the same layer", err);
    assert_fails(read_keys(known, module, up, down, NULL, 1, &a, &err), DRPO_E_INPUT, "the layer needs", err);
    assert_fails(read_keys(known, module, down, up, NULL, NAN, &a, &err), DRPO_E_INPUT, "not finite", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.alpha", INFINITY, &a, &err),
                 DRPO_E_INPUT, "alpha", err);
    assert_null(a);
    lora_free(known);
}

/* adapter_config.json says something that plain LoRA is not, or contradicts the tensors. */
static void test_wrong_settings(void **state) {
    (void)state;
    static const char *const wrong[][3] = {{"use_dora", "true", "use_dora"},
                                           {"bias", "\"all\"", "bias"},
                                           {"peft_type", "\"LOHA\"", "LOHA"},
                                           {"modules_to_save", "[\"conv_in\"]", "modules_to_save"},
                                           {"r", "4", "rank 4"},
                                           {"r", "\"3\"", "numbers"},
                                           {"alpha_pattern", "{\".*to_q\": 3}", "regular expression"}};
    char folder[512];
    Error err = {0};
    Adapter *known = known_modules("unet_sd"), *a;
    MappedFile tensors;
    assert_ok(file_map(GOLDEN_DIR "/lora/peft/adapter_model.safetensors", &tensors, &err), err);
    put_file(in_dir(fresh_dir("lora_settings", folder), "adapter_model.safetensors"), tensors.data, tensors.size);
    file_unmap(&tensors);
    assert_fails(lora_read(folder, 1, known, &a, &err), DRPO_E_INPUT, "adapter_config.json", err);
    assert_ok(lora_read(in_dir(folder, "adapter_model.safetensors"), 1, known, &a, &err),
              err); /* a bare file: alpha = rank */
    assert_true(a->n_pair > 0 && a->pair[0].scale == 1);
    lora_free(a);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *settings;
        assert_ok(json_load_path(GOLDEN_DIR "/lora/peft/adapter_config.json", &settings, &err), err);
        json_object_set_new(settings, wrong[i][0], json_loads(wrong[i][1], JSON_DECODE_ANY, NULL));
        assert_ok(json_save_path(in_dir(folder, "adapter_config.json"), settings, &err), err);
        json_decref(settings);
        assert_fails(lora_read(folder, 1, known, &a, &err), DRPO_E_INPUT, wrong[i][2], err);
    }
    assert_fails(lora_read(fresh_dir("lora_settings", folder), 1, known, &a, &err), DRPO_E_INPUT, "neither", err);
    lora_free(known);
}

/* use_rslora divides by the root of the rank. */
static void test_rslora(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Adapter *known = known_modules("unet_sd"), *a;
    MappedFile tensors;
    json_t *settings;
    assert_ok(file_map(GOLDEN_DIR "/lora/peft/adapter_model.safetensors", &tensors, &err), err);
    put_file(in_dir(fresh_dir("rslora", folder), "adapter_model.safetensors"), tensors.data, tensors.size);
    file_unmap(&tensors);
    assert_ok(json_load_path(GOLDEN_DIR "/lora/peft/adapter_config.json", &settings, &err), err);
    json_object_set_new(settings, "use_rslora", json_true());
    assert_ok(json_save_path(in_dir(folder, "adapter_config.json"), settings, &err), err);
    json_decref(settings);
    assert_ok(lora_read(folder, 1, known, &a, &err), err);
    assert_true(fabsf(lora_find(a, SPECIAL_MODULE)->scale - 7 / sqrtf(2)) < 1e-5f);
    lora_free(a);
    lora_free(known);
}

/* ---- writing ---- */

static void test_round_trips(void **state) {
    (void)state;
    static const LoraMeta meta = {.base_model = "stabilityai/sd-turbo",
                                  .architecture = "stable-diffusion-v2/lora",
                                  .title = "test",
                                  .steps = 12,
                                  .seed = 3,
                                  .learning_rate = 1e-4f,
                                  .resolution = 512};
    char folder[512];
    Error err = {0};
    fresh_dir("lora_out", folder);
    const char *paths[] = {in_dir(folder, "new/peft"), in_dir(folder, "diffusers.safetensors"),
                           in_dir(folder, "kohya.safetensors")};
    Adapter *known = known_modules("unet_sd"), *trained = make_adapter("unet_sd", 3, 5, ATTENTION_TARGETS), *mixed;
    fill_b(trained);
    assert_ok(lora_read(GOLDEN_DIR "/lora/peft", 0.3f, known, &mixed, &err),
              err); /* ranks 3 and 2, odd scales, no targets */
    Adapter *sources[] = {trained, mixed};
    assert_ok(dir_make(in_dir(folder, "new"), &err), err);
    for (int s = 0; s < 2; s++) {
        for (int format = 0; format < 3; format++) {
            Adapter *again;
            assert_ok(lora_write(sources[s], (LoraFormat)format, paths[format], &meta, &err), err);
            assert_ok(lora_read(paths[format], 1, known, &again, &err), err);
            assert_int_equal(again->count, sources[s]->count);
            assert_memory_equal(again->values, sources[s]->values, again->count * sizeof(float));
            for (int i = 0; i < again->n_pair; i++) {
                assert_string_equal(again->pair[i].module, sources[s]->pair[i].module);
                assert_true(fabsf(again->pair[i].scale - sources[s]->pair[i].scale) <=
                            1e-6f * sources[s]->pair[i].scale);
            }
            lora_free(again);
        }
    }
    SafeFile *f;
    assert_ok(safetensors_open(paths[2], &f, &err), err);
    assert_string_equal(safetensors_metadata(f, "ss_base_model_version"), "sd_v2");
    assert_string_equal(safetensors_metadata(f, "ss_network_dim"), "3");
    assert_string_equal(safetensors_metadata(f, "modelspec.architecture"), "stable-diffusion-v2/lora");
    safetensors_close(f);
    lora_free(known);
    lora_free(trained);
    lora_free(mixed);
}

static void test_refuses_to_write(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Adapter *a = make_adapter("unet_sd", 2, 2, "to_q");
    a->values[3] = NAN;
    const char *path = in_dir(fresh_dir("lora_nan", folder), "x.safetensors");
    assert_fails(lora_write(a, LORA_KOHYA, path, NULL, &err), DRPO_E_NUMERIC, "not finite", err);
    assert_false(file_exists(path));
    lora_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files_of_others), cmocka_unit_test(test_spellings),
                                       cmocka_unit_test(test_wrong_keys),      cmocka_unit_test(test_wrong_settings),
                                       cmocka_unit_test(test_rslora),          cmocka_unit_test(test_round_trips),
                                       cmocka_unit_test(test_refuses_to_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
