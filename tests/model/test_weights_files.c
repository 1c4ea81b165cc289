/* Which files a component's weights come from: plain, variant, several with an index; and what is said instead. */
#include "check.h"
#include "format/safetensors.h"
#include "model/advice.h"
#include "model/weights.h"

#include <unistd.h>

static const float VALUES[4] = {1, -2, 0.5f, 4};

/* One tensor [n] of a type; its values are the first of VALUES. */
static const char *write_tensor(const char *folder, const char *file, const char *name, DType type, int64_t n) {
    static const uint16_t half[4] = {0x3c00, 0xc000, 0x3800, 0x4400}, brain[4] = {0x3f80, 0xc000, 0x3f00, 0x4080};
    const void *data = type == DT_F32 ? (const void *)VALUES : type == DT_F16 ? half : brain;
    SafeTensor tensor = {name, type, 1, {n}, data, (size_t)n * dtype_bytes(type)};
    Error err = {0};
    assert_ok(safetensors_write(in_dir(folder, file), &tensor, 1, NULL, 0, &err), err);
    return folder;
}

static void check_values(Weights *w, const char *name, int64_t n) {
    Param *p = weights_get(w, shape1(n), "%s", name);
    if (!p) fail_msg("%s", weights_mistake(w));
    float values[4];
    dtype_to_f32(p->dtype, p->data, 0, (size_t)n, values);
    assert_memory_equal(values, VALUES, (size_t)n * sizeof *values);
}

static void test_plain_and_variant(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    fresh_dir("variants", folder);
    write_tensor(folder, "model.fp16.safetensors", "x", DT_F16, 3);
    assert_ok(weights_open(folder, "model", &w, &err), err); /* nothing else is there */
    assert_non_null(strstr(weights_path(w), "fp16"));
    check_values(w, "x", 3);
    weights_free(w);
    write_tensor(folder, "model.safetensors", "x", DT_F32, 2);
    assert_ok(weights_open(folder, "model", &w, &err), err);
    check_values(w, "x", 2);
    weights_free(w);
    assert_ok(weights_open_variant(folder, "model", "fp16", &w, &err), err);
    check_values(w, "x", 3);
    weights_free(w);
    assert_fails(weights_open_variant(folder, "model", "ema", &w, &err), DRPO_E_INPUT, "leave --variant out", err);
    write_tensor(folder, "other.bf16.safetensors", "x", DT_BF16, 4);
    assert_ok(weights_open_variant(folder, "other", "bf16", &w, &err), err);
    check_values(w, "x", 4);
    weights_free(w);
    fresh_dir("variants", folder);
    write_tensor(folder, "model.bf16.safetensors", "x", DT_BF16, 4);
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "--variant bf16", err);
    assert_fails(weights_open_variant(folder, "model", "fp16", &w, &err), DRPO_E_INPUT, "--variant bf16", err);
}

static const char MAP[] = "{\"metadata\": {\"total_size\": 28}, \"weight_map\": {\"z\": \"b.safetensors\", \"x\": "
                          "\"a.safetensors\", \"y\": \"b.safetensors\"}}";

/* x in a.safetensors as float32, y and z in b.safetensors as bfloat16 */
static const char *write_shards(const char *name, char folder[512]) {
    static const uint16_t brain[4] = {0x3f80, 0xc000, 0x3f00, 0x4080};
    const SafeTensor two[] = {{"z", DT_BF16, 1, {3}, brain, 6}, {"y", DT_BF16, 1, {2}, brain, 4}};
    Error err = {0};
    fresh_dir(name, folder);
    write_tensor(folder, "a.safetensors", "x", DT_F32, 4);
    assert_ok(safetensors_write(in_dir(folder, "b.safetensors"), two, 2, NULL, 0, &err), err);
    put_text(in_dir(folder, "model.safetensors.index.json"), MAP);
    return folder;
}

static void test_several_files(void **state) {
    (void)state;
    char folder[512], hash[65], lines[512], wanted[65];
    Error err = {0};
    Weights *w;
    assert_ok(weights_open(write_shards("shards", folder), "model", &w, &err), err);
    assert_int_equal(weights_count(w), 3);
    assert_int_equal(weights_bytes(w), 16 + 6 + 4);
    assert_string_equal(weights_at(w, 0)->name, "x");
    check_values(w, "x", 4);
    check_values(w, "y", 2);
    assert_fails(weights_finish(w, &err), DRPO_E_INPUT, "'z'", err);
    check_values(w, "z", 3);
    assert_ok(weights_finish(w, &err), err);
    assert_ok(weights_sha256(w, hash, &err), err);
    weights_free(w);

    size_t n = 0; /* what `sha256sum a.safetensors b.safetensors` prints */
    for (const char *name = "a"; name; name = *name == 'a' ? "b" : NULL) {
        MappedFile f;
        char file[32];
        snprintf(file, sizeof file, "%s.safetensors", name);
        assert_ok(file_map(in_dir(folder, file), &f, &err), err);
        sha256_hex(f.data, f.size, wanted);
        file_unmap(&f);
        n += (size_t)snprintf(lines + n, sizeof lines - n, "%s  %s\n", wanted, file);
    }
    sha256_hex(lines, n, wanted);
    assert_string_equal(hash, wanted);

    rename(in_dir(folder, "model.safetensors.index.json"), in_dir(folder, "model.safetensors.index.fp16.json"));
    assert_ok(weights_open_variant(folder, "model", "fp16", &w, &err), err);
    assert_int_equal(weights_count(w), 3);
    weights_free(w);
}

/* Replaces `from` in MAP and opens. */
static int open_changed(const char *from, const char *to, Error *err) {
    char folder[512], text[1024];
    Weights *w;
    const char *at = strstr(MAP, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - MAP), MAP, to, at + strlen(from));
    put_text(in_dir(write_shards("shards", folder), "model.safetensors.index.json"), text);
    return weights_open(folder, "model", &w, err);
}

static void test_wrong_index(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    assert_fails(open_changed("weight_map", "weights", &err), DRPO_E_INPUT, "no \"weight_map\"", err);
    assert_fails(open_changed("b.safetensors", "c.safetensors", &err), DRPO_E_INPUT, "c.safetensors, which is missing",
                 err);
    assert_fails(open_changed("b.safetensors", "../b.safetensors", &err), DRPO_E_INPUT, "no file of its folder", err);
    assert_fails(open_changed("\"y\"", "\"w\"", &err), DRPO_E_INPUT, "'w' is not in b.safetensors", err);
    assert_fails(open_changed("\"a.safetensors\"", "3", &err), DRPO_E_INPUT, "not a text", err);
    write_tensor(write_shards("shards", folder), "a.safetensors", "y", DT_F32, 4);
    put_text(in_dir(folder, "model.safetensors.index.json"),
             "{\"weight_map\": {\"z\": \"b.safetensors\", \"y\": \"a.safetensors\"}}");
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "'y' is there twice", err);
}

static void test_what_is_there_instead(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    fresh_dir("instead", folder);
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "no model.safetensors", err);
    assert_fails(weights_open(in_dir(folder, "nowhere"), "model", &w, &err), DRPO_E_INPUT,
                 "no such folder; get the whole model: hf download stabilityai/sd-turbo", err);
    put_text(in_dir(folder, "pytorch_model.bin"), "x");
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "only pytorch_model.bin, a pickle", err);
    assert_int_equal(symlink("../nowhere", in_dir(folder, "model.safetensors")), 0);
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "a link to nothing", err);
    unlink(in_dir(folder, "model.safetensors"));
    put_text(in_dir(folder, "model.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert_fails(weights_open(folder, "model", &w, &err), DRPO_E_INPUT, "'git lfs pull' in its repository, or: hf ",
                 err);
}

static void test_advice(void **state) {
    (void)state;
    char folder[512], text[ADVICE_LENGTH];
    Error err = {0};
    assert_string_equal(model_advice("/c/models--some--one-step/snapshots/0/unet", text), "hf download some/one-step");
    assert_non_null(strstr(model_advice("/c/models--stabilityai--sdxl-turbo/x", text),
                           "hf download stabilityai/sdxl-turbo --exclude \"sd_*.safetensors\""));
    fresh_dir("advice", folder);
    assert_ok(dir_make(in_dir(folder, "unet"), &err), err);
    put_text(in_dir(folder, "model_index.json"), "{\"_class_name\": \"StableDiffusionXLPipeline\"}");
    const char *paths[] = {folder, in_dir(folder, "unet"), in_dir(folder, "unet/model.safetensors")};
    for (int i = 0; i < 3; i++) {
        model_advice(paths[i], text);
        assert_non_null(strstr(text, "stabilityai/sdxl-turbo"));
        assert_non_null(strstr(text, folder));
        assert_null(strstr(text, "/unet"));
    }
    put_text(in_dir(folder, "model_index.json"), "{\"_class_name\": \"StableDiffusionPipeline\"}");
    assert_non_null(strstr(model_advice(folder, text), "stabilityai/sd-turbo "));
}

/* Older models have a checkpoint of torch.save instead; safetensors beside it come first. */
static void test_checkpoint_folder(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    MappedFile checkpoint;
    fresh_dir("checkpoint", folder);
    assert_ok(file_map(SOURCE_DIR "/tests/golden/torch_pickle/plain.pt", &checkpoint, &err), err);
    static const char *const names[][2] = {{"pytorch_model.bin", "model"},
                                           {"diffusion_pytorch_model.bin", "diffusion_pytorch_model"}};
    for (int i = 0; i < 2; i++) {
        put_file(in_dir(folder, names[i][0]), checkpoint.data, checkpoint.size);
        assert_ok(weights_open(folder, names[i][1], &w, &err), err);
        assert_non_null(weights_get(w, shape2(6, 4), "visual.turned"));
        assert_true(strstr(weights_path(w), names[i][0]) != NULL);
        weights_free(w);
        assert_fails(weights_open_variant(folder, names[i][1], "fp16", &w, &err), DRPO_E_INPUT, "pickle", err);
    }
    file_unmap(&checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_and_variant),     cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_wrong_index),           cmocka_unit_test(test_checkpoint_folder),
        cmocka_unit_test(test_what_is_there_instead), cmocka_unit_test(test_advice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
