/* A LoRA merged into a checkpoint in one file: the same file again but for the adapted layers, which are those of a
 * merged folder; a file that reads back as something else is refused. */
#include "base/file.h"
#include "lora_unet.h"
#include "model/checkpoint_merge.h"
#include "model/lora_merge.h"
#include "model/lora_private.h"
#include "model/single_file.h"

#define ORIGINAL GOLDEN_DIR "/single_file/checkpoint.safetensors"

/* Layers of ORIGINAL's UNet: [out,in], rank of the adapter */
static const struct {
    const char *module;
    int out, in, rank;
} LAYERS[] = {{"down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_k", 16, 12, 2},
              {"mid_block.attentions.0.proj_in", 16, 16, 3},
              {"up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj", 128, 16, 1},
              {"time_embedding.linear_1", 32, 8, 2}};
enum { N_LAYERS = sizeof LAYERS / sizeof *LAYERS };

static Adapter *small_adapter(void) {
    Error err = {0};
    Adapter *a = lora_new(2, 3, "", &err);
    assert_non_null(a);
    for (int i = 0; i < N_LAYERS; i++)
        assert_ok(
            lora_register_pair(a, LAYERS[i].module, LAYERS[i].in, LAYERS[i].out, LAYERS[i].rank, 0.5f + (float)i, &err),
            err);
    assert_ok(lora_allocate(a, &err), err);
    lora_init(a, 3);
    fill_b(a);
    return a;
}

/* The golden checkpoint with what published ones have beside the model, in `folder`. */
static const char *with_extras(const char *folder) {
    static const float one = 1;
    static const TextPair metadata[] = {{"modelspec.title", "A model"}, {"modelspec.hash_sha256", "0x12"}};
    const char *path = in_dir(folder, "original.safetensors");
    Error err = {0};
    SafeFile *f;
    assert_ok(safetensors_open(ORIGINAL, &f, &err), err);
    size_t n = safetensors_count(f);
    SafeTensor *tensor = calloc(n + 1, sizeof *tensor);
    assert_non_null(tensor);
    for (size_t i = 0; i < n; i++) tensor[i] = *safetensors_at(f, i);
    tensor[n] = (SafeTensor){"model_ema.decay", DT_F32, 0, {0}, &one, sizeof one};
    assert_ok(safetensors_write(path, tensor, n + 1, metadata, 2, &err), err);
    free(tensor);
    safetensors_close(f);
    return path;
}

static bool is_layer(const char *name) {
    for (int i = 0; i < N_LAYERS; i++) {
        size_t length = strlen(LAYERS[i].module);
        if (strncmp(name, LAYERS[i].module, length) == 0 && strcmp(name + length, ".weight") == 0) return true;
    }
    return false;
}

/* The UNet of `merged` under diffusers' names is the UNet of `original` merged as a folder's is. */
static void check_unet(const char *original, const char *merged, const char *folder, const Adapter *a) {
    Error err = {0};
    Weights *w;
    SafeFile *wanted;
    const char *file = in_dir(folder, "unet.safetensors");
    assert_ok(single_file_weights(original, FAMILY_SDXL_TURBO, "unet", 0, &w, &err), err);
    assert_ok(lora_merge_file(w, a, file, &err), err);
    int changed = 0;
    Weights *got;
    assert_ok(safetensors_open(file, &wanted, &err), err);
    assert_ok(single_file_weights(merged, FAMILY_SDXL_TURBO, "unet", 0, &got, &err), err);
    assert_int_equal(weights_count(got), safetensors_count(wanted));
    assert_int_equal(weights_count(got), weights_count(w));
    for (size_t i = 0; i < weights_count(w); i++) {
        const SafeTensor *before = weights_at(w, i), *t = safetensors_find(wanted, before->name), *mine = NULL;
        for (size_t j = 0; j < weights_count(got); j++)
            if (strcmp(weights_at(got, j)->name, before->name) == 0) mine = weights_at(got, j);
        if (!mine || !t || mine->bytes != t->bytes || memcmp(mine->data, t->data, t->bytes) != 0)
            fail_msg("%s differs from the merged folder's", before->name);
        bool same = memcmp(before->data, t->data, t->bytes) == 0;
        if (same == is_layer(before->name)) fail_msg("%s: %s", before->name, same ? "not merged" : "changed");
        changed += !same;
    }
    assert_int_equal(changed, N_LAYERS);
    weights_free(w);
    weights_free(got);
    safetensors_close(wanted);
}

static void test_merged(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    SafeFile *before, *after;
    const char *original = with_extras(fresh_dir("merge", folder)), *merged = in_dir(folder, "merged.safetensors");
    Adapter *a = small_adapter();
    assert_ok(checkpoint_merge(original, a, merged, &err), err);
    check_unet(original, merged, folder, a);
    assert_ok(safetensors_open(original, &before, &err), err);
    assert_ok(safetensors_open(merged, &after, &err), err);
    assert_int_equal(safetensors_count(after), safetensors_count(before) - 1); /* without the average */
    assert_null(safetensors_find(after, "model_ema.decay"));
    for (size_t i = 0; i < safetensors_count(after); i++) {
        const SafeTensor *t = safetensors_at(after, i), *old = safetensors_find(before, t->name);
        if (!old || old->dtype != t->dtype || old->rank != t->rank) fail_msg("%s is new", t->name);
        if (strncmp(t->name, "model.diffusion_model.", 22) != 0 && memcmp(old->data, t->data, t->bytes) != 0)
            fail_msg("%s changed", t->name);
    }
    assert_string_equal(safetensors_metadata(after, "modelspec.title"), "A model");
    assert_null(safetensors_metadata(after, "modelspec.hash_sha256"));
    safetensors_close(before);
    safetensors_close(after);
    lora_free(a);
}

/* Changes the lowest-but-one bit of one value's upper byte in the file. */
static void damage(const char *path, const char *tensor) {
    Error err = {0};
    SafeFile *f;
    MappedFile m;
    assert_ok(safetensors_open(path, &f, &err), err);
    const SafeTensor *t = safetensors_find(f, tensor);
    assert_non_null(t);
    assert_ok(file_map(path, &m, &err), err);
    unsigned char *copy = malloc(m.size);
    assert_non_null(copy);
    memcpy(copy, m.data, m.size);
    FILE *out = fopen(path, "r+b");
    assert_non_null(out);
    size_t at = 0; /* tensors lie in the order of the list, the last one ends with the file */
    for (size_t i = safetensors_count(f); i > 0 && safetensors_at(f, i - 1) != t; i--)
        at += safetensors_at(f, i - 1)->bytes;
    at = m.size - at - t->bytes + 1;
    copy[at] ^= 2;
    assert_int_equal(fwrite(copy, 1, m.size, out), m.size);
    fclose(out);
    free(copy);
    file_unmap(&m);
    safetensors_close(f);
}

static void test_reads_back(void **state) {
    (void)state;
    static const char *const damaged[] = {"down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_k.weight",
                                          "mid_block.resnets.0.conv1.weight"};
    char folder[512];
    fresh_dir("merge", folder);
    Error err = {0};
    Weights *w;
    const char *path = in_dir(folder, "unet.safetensors");
    Adapter *a = small_adapter();
    assert_ok(single_file_weights(ORIGINAL, FAMILY_SDXL_TURBO, "unet", 0, &w, &err), err);
    size_t n = weights_count(w);
    SafeTensor *tensor = calloc(n, sizeof *tensor);
    const char **name = calloc(n, sizeof *name);
    assert_true(tensor && name);
    for (size_t i = 0; i < n; i++) tensor[i] = *weights_at(w, i), name[i] = tensor[i].name;
    MergeList l = {.tensor = tensor, .name = name, .n = n, .from = ORIGINAL};
    for (int i = 0; i < 2; i++) {
        assert_ok(lora_merge_list(&l, a, path, &err), err);
        assert_ok(lora_merge_check(&l, a, path, &err), err);
        damage(path, damaged[i]);
        assert_fails(lora_merge_check(&l, a, path, &err), DRPO_E_IO, damaged[i], err);
    }
    assert_ok(lora_merge_list(&l, a, path, &err), err);
    l.n--;
    assert_fails(lora_merge_check(&l, a, path, &err), DRPO_E_IO, "were written", err);
    a->pair[1].scale *= 1.01f; /* another adapter */
    l.n++;
    assert_fails(lora_merge_check(&l, a, path, &err), DRPO_E_IO, LAYERS[1].module, err);
    free(tensor);
    free(name);
    weights_free(w);
    lora_free(a);
}

static void test_refused(void **state) {
    (void)state;
    char folder[512];
    const char *path = in_dir(fresh_dir("merge", folder), "merged.safetensors");
    Error err = {0};
    Adapter *a = lora_new(1, 1, "", &err);
    assert_ok(lora_register(a, "down_blocks.9.attentions.0.proj_in", 16, 16, &err), err);
    assert_ok(lora_allocate(a, &err), err);
    assert_fails(checkpoint_merge(ORIGINAL, a, path, &err), DRPO_E_INPUT, "0 of the adapter's 1 layers", err);
    assert_fails(checkpoint_merge(in_dir(folder, "nothing"), a, path, &err), DRPO_E_INPUT, "nothing", err);
    assert_false(file_exists(path));
    lora_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_merged), cmocka_unit_test(test_reads_back),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
