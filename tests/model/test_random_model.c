/* Random models: what is written has the tensors of diffusers' own files, and the published numbers of weights. */
#include "check.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/safetensors.h"
#include "model/pipeline.h"
#include "model/random_model.h"

static const char *golden(const char *family) {
    static char folder[512];
    snprintf(folder, sizeof folder, "%s/tests/golden/families/%s", SOURCE_DIR, family);
    return folder;
}

static bool is_weights(const char *name) { return strstr(name, ".safetensors") != NULL; }

static void copy_file(const char *from, const char *to) {
    Error err = {0};
    MappedFile f;
    assert_ok(file_map(from, &f, &err), err);
    put_file(to, f.data, f.size);
    file_unmap(&f);
}

/* Everything but the weights. */
static void copy_documents(const char *from, const char *to) {
    Error err = {0};
    struct dirent *entry;
    assert_ok(dir_make(to, &err), err);
    DIR *dir = opendir(from);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        char a[1024], b[1024];
        snprintf(a, sizeof a, "%s/%s", from, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", to, entry->d_name);
        if (file_exists(a) && !is_weights(a)) copy_file(a, b);
        if (dir_exists(a) && entry->d_name[0] != '.') copy_documents(a, b);
    }
    closedir(dir);
}

/* Values of a layer are near zero, of a norm's weight near one, and all finite. */
static void check_values(const SafeTensor *t) {
    float x[64];
    const size_t all = t->bytes / 2, n = all < 64 ? all : 64;
    double sum = 0;
    dtype_to_f32(t->dtype, t->data, 0, n, x);
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        sum += x[i];
    }
    const bool norm = t->rank == 1 && strstr(t->name, "weight");
    assert_true(fabs(sum / (double)n - (norm ? 1 : 0)) < (norm || t->rank == 1 ? 0.1 : 1.5));
}

static void compare_files(const char *made, const char *wanted) {
    static const char front[] = "text_model."; /* in the published files; transformers 5 leaves it out */
    Error err = {0};
    SafeFile *a, *b;
    assert_ok(safetensors_open(made, &a, &err), err);
    assert_ok(safetensors_open(wanted, &b, &err), err);
    assert_int_equal(safetensors_count(a), safetensors_count(b));
    for (size_t i = 0; i < safetensors_count(a); i++) {
        const SafeTensor *t = safetensors_at(a, i), *other = safetensors_find(b, t->name);
        if (!other && strncmp(t->name, front, strlen(front)) == 0) other = safetensors_find(b, t->name + strlen(front));
        if (!other) fail_msg("%s: '%s' is too much", made, t->name);
        assert_int_equal(t->rank, other->rank);
        for (int d = 0; d < t->rank; d++) assert_int_equal(t->dim[d], other->dim[d]);
        assert_int_equal(t->dtype, DT_F16);
        check_values(t);
    }
    safetensors_close(a);
    safetensors_close(b);
}

static void test_tensors_are_those_of_diffusers(void **state) {
    (void)state;
    static const char *const parts[] = {"text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
                                        "unet/diffusion_pytorch_model.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors"};
    static const char *const families[] = {"sd", "sdxl"};
    for (size_t f = 0; f < 2; f++) {
        char folder[512];
        Error err = {0};
        Pipeline *p;
        const char *from = golden(families[f]);
        copy_documents(from, fresh_dir("random_model", folder));
        assert_ok(random_model_fill(folder, (RandomWatch){0}, &err), err);
        for (size_t i = 0; i < 4; i++)
            if (file_exists(in_dir(from, parts[i]))) compare_files(in_dir(folder, parts[i]), in_dir(from, parts[i]));
        assert_ok(pipeline_open(folder, &p, &err), err);
        pipeline_free(p);
    }
}

/* Remembers how much there is to write and stops. */
static int count_and_stop(void *user, size_t done, size_t all, Error *err) {
    assert_int_equal(done, 0);
    *(size_t *)user = all;
    return fail(err, DRPO_E_CANCELLED, "counted");
}

static void test_published_numbers_of_weights(void **state) {
    (void)state;
    /* UNet, VAE, text encoders as their model cards count them, and the latent feature network */
    static const size_t weights[FAMILIES] = {
        [FAMILY_SD_TURBO] = 865910724 + 83653863 + 340387840,
        [FAMILY_SDXL_TURBO] = 2567463684 + 83653863 + 123060480 + 694659840,
    };
    const size_t features = 188156928;
    for (int f = 0; f < FAMILIES; f++) {
        char dir[512];
        Error err = {0};
        size_t bytes = 0;
        const char *folder = in_dir(fresh_dir("random_family", dir), "model");
        assert_fails(random_model_make((Family)f, SOURCE_DIR "/assets/tiny-turbo/tokenizer", folder,
                                       (RandomWatch){count_and_stop, &bytes}, &err),
                     DRPO_E_CANCELLED, "counted", err);
        assert_int_equal(bytes, 2 * (weights[f] + features));
        assert_int_equal(rmdir(dir), 0); /* nothing is left */
    }
}

static void test_a_part_that_is_missing(void **state) {
    (void)state;
    char dir[512];
    Error err = {0};
    const char *folder = in_dir(fresh_dir("random_broken", dir), "model");
    assert_fails(random_model_make(FAMILY_SD_TURBO, "nowhere", folder, (RandomWatch){0}, &err), DRPO_E_INPUT,
                 "nowhere/vocab.json", err);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tensors_are_those_of_diffusers),
                                       cmocka_unit_test(test_published_numbers_of_weights),
                                       cmocka_unit_test(test_a_part_that_is_missing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
