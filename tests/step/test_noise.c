/* The sources of noise: order, independence, PyTorch's numbers, files and their faults. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/safetensors.h"
#include "step/noise.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

static NoiseSource *open_source(NoiseKind kind, const char *path, uint64_t seed, size_t per_image, float neighbour) {
    NoiseSource *n = NULL;
    Error err = {0};
    if (noise_open(kind, path, seed, per_image, neighbour, &n, &err) < 0) fail_msg("%s", err.text);
    return n;
}

static void candidates(NoiseSource *n, long step, int prompt, int prompts, int k, float *out) {
    Error err = {0};
    if (noise_candidates(n, step, prompt, prompts, k, out, &err) < 0) fail_msg("%s", err.text);
}

static void close_to(const float *got, const double *want, int n) {
    for (int i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 2e-6) fail_msg("number %d is %.9g, PyTorch has %.9g", i, (double)got[i], want[i]);
}

static void test_counter_based_noise_depends_on_its_key_alone(void **state) {
    (void)state;
    NoiseSource *n = open_source(NOISE_PHILOX, NULL, 5, 64, 0), *seeded = open_source(NOISE_PHILOX, NULL, 6, 64, 0);
    float a[4 * 64], b[4 * 64];
    candidates(n, 3, 1, 2, 4, a);
    candidates(n, 0, 0, 2, 4, b);
    assert_memory_not_equal(a, b, sizeof a);
    candidates(n, 3, 1, 8, 2, b); /* other numbers of prompts and candidates: the same first ones */
    assert_memory_equal(a, b, 2 * 64 * sizeof(float));
    assert_memory_not_equal(a, a + 64, 64 * sizeof(float));
    candidates(n, 3, 0, 2, 4, b);
    assert_memory_not_equal(a, b, sizeof a);
    candidates(seeded, 3, 1, 2, 4, b);
    assert_memory_not_equal(a, b, sizeof a);
    noise_close(n);
    noise_close(seeded);
}

/* torch.randn(2,3,4,2,3, generator=torch.Generator().manual_seed(42)), twice */
static void test_torch_draws_whole_updates_from_one_generator(void **state) {
    (void)state;
    const double step0[2][3] = {{1.92691529, 1.48728406, 0.900717199}, {-2.50954437, 0.488001049, 0.784586847}};
    const double step1[2][3] = {{-0.972673893, 0.958457768, 1.61920047}, {-0.929130316, 0.276190877, -0.538875282}};
    const double last1[3] = {1.15656316, 0.269054562, -0.0366294384};
    NoiseSource *n = open_source(NOISE_TORCH, NULL, 42, 24, 0);
    float z[3 * 24];
    candidates(n, 1, 0, 2, 3, z); /* skips update 0 */
    close_to(z, step1[0], 3);
    candidates(n, 1, 1, 2, 3, z);
    close_to(z + 24, step1[1], 3);
    close_to(z + 69, last1, 3);
    candidates(n, 0, 0, 2, 3, z); /* replays */
    close_to(z, step0[0], 3);
    candidates(n, 0, 1, 2, 3, z);
    close_to(z + 24, step0[1], 3);
    candidates(n, 1, 0, 2, 3, z);
    close_to(z, step1[0], 3);
    noise_close(n);
}

/* torch.randn(1,2,1,3,3, generator=torch.Generator().manual_seed(7)), twice: 18 numbers, not a whole number of blocks
 */
static void test_torch_tails(void **state) {
    (void)state;
    const double want[2][4] = {{-0.820134521, 0.395631164, -0.866701603, -0.564006686},
                               {0.174375355, 2.2983427, 1.61204672, 1.56712377}};
    NoiseSource *n = open_source(NOISE_TORCH, NULL, 7, 9, 0);
    for (int step = 0; step < 2; step++) {
        float z[18];
        candidates(n, step, 0, 1, 2, z);
        close_to(z, want[step], 2);
        close_to(z + 16, want[step] + 2, 2);
    }
    noise_close(n);
}

static void test_images_have_their_own_seeds(void **state) {
    (void)state;
    NoiseSource *n = open_source(NOISE_TORCH, NULL, 42, 24, 0);
    float z[3 * 24], again[24];
    assert_int_equal(noise_images(n, 0, 3, z, NULL), 0);
    close_to(z + 24, (const double[]){-0.0166036133, -0.466794938, 2.09089756}, 3); /* manual_seed(43) */
    noise_close(n);
    n = open_source(NOISE_PHILOX, NULL, 42, 24, 0.5f);
    assert_int_equal(noise_images(n, 0, 3, z, NULL), 0);
    assert_int_equal(noise_images(n, 2, 1, again, NULL), 0);
    assert_memory_equal(z + 48, again, sizeof again);
    noise_close(n);
}

/* torch.randn(3, 2, 3, 4, generator=torch.Generator().manual_seed(42)): one tensor for three images */
static void test_one_generator_draws_a_batch(void **state) {
    (void)state;
    float z[3 * 24], part[24];
    NoiseSource *n = open_source(NOISE_TORCH, NULL, 42, 24, 0);
    noise_torch(n, 3, 0);
    assert_int_equal(noise_images(n, 0, 3, z, NULL), 0);
    close_to(z, (const double[]){1.92691529, 1.48728406, 0.900717199}, 3);
    float whole[3 * 24];
    Mt19937 g;
    mt19937_seed(&g, 42);
    mt19937_normal(&g, whole, 3 * 24);
    assert_memory_equal(z, whole, sizeof z);
    assert_int_equal(noise_images(n, 1, 1, part, NULL), 0);
    assert_memory_equal(part, z + 24, sizeof part);
    Error err = {0};
    assert_int_equal(noise_images(n, 1, 3, z, &err), DRPO_E_INTERNAL);
    noise_close(n);
}

static void test_cuda_generator(void **state) {
    (void)state;
    float z[2 * 12], batch[2 * 12], own[12];
    /* torch.randn(3, 4, device="cuda") behind manual_seed(0) */
    const double want[3] = {-0.92466259, -0.42534415, -2.6438457};
    NoiseSource *n = open_source(NOISE_TORCH_CUDA, NULL, 0, 12, 0);
    assert_int_equal(noise_images(n, 0, 2, z, NULL), 0);
    close_to(z, want, 3);
    assert_int_equal(noise_images(n, 1, 1, own, NULL), 0);
    assert_memory_equal(own, z + 12, sizeof own);
    noise_torch(n, 2, 0);
    assert_int_equal(noise_images(n, 0, 2, batch, NULL), 0);
    assert_memory_equal(batch, z, sizeof own); /* the first image begins the same tensor */
    assert_memory_not_equal(batch + 12, z + 12, sizeof own);
    candidates(n, 0, 0, 2, 1, own); /* [2 prompts, 1 candidate] is the same tensor */
    assert_memory_equal(own, batch, sizeof own);
    candidates(n, 0, 1, 2, 1, own);
    assert_memory_equal(own, batch + 12, sizeof own);
    candidates(n, 1, 0, 2, 1, own); /* the next update goes on */
    float later[12];
    torch_cuda_normal(&(TorchCudaDraw){.offset = 4, .total = 24}, 0, 12, later);
    assert_memory_equal(own, later, sizeof own);
    noise_close(n);
}

static double correlation(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void test_neighbours_share_a_centre_and_stay_normal(void **state) {
    (void)state;
    enum { N = 40000 };
    NoiseSource *n = open_source(NOISE_PHILOX, NULL, 9, N, 0.6f);
    float *z = malloc(2 * N * sizeof *z), *other = malloc(2 * N * sizeof *other);
    candidates(n, 2, 0, 2, 2, z);
    candidates(n, 2, 1, 2, 2, other);
    double square = 0;
    for (int i = 0; i < N; i++) square += (double)z[i] * z[i] / N;
    assert_true(fabs(square - 1) < 0.03);
    assert_true(fabs(correlation(z, z + N, N) - (1 - 0.36)) < 0.02); /* 1 - s^2 */
    assert_true(fabs(correlation(z, other, N)) < 0.03);              /* each prompt has its own centre */
    noise_close(n);
    free(z);
    free(other);
}

static const char *write_noise(const char *name, const char *tensor, DType type, int rank, const int64_t *dim,
                               const void *data, size_t bytes) {
    static char path[512];
    Error err = {0};
    assert_int_equal(dir_make(TEST_TMP, &err), 0);
    snprintf(path, sizeof path, "%s/%s.safetensors", TEST_TMP, name);
    SafeTensor t = {.name = tensor, .dtype = type, .rank = rank, .data = data, .bytes = bytes};
    for (int k = 0; k < rank; k++) t.dim[k] = dim[k];
    if (safetensors_write(path, &t, 1, NULL, 0, &err) < 0) fail_msg("%s", err.text);
    return path;
}

static void test_file_rows_in_order(void **state) {
    (void)state;
    double wide[24 * 6];
    for (int i = 0; i < 24 * 6; i++) wide[i] = i;
    const char *path = write_noise("rows", "noise", DT_F64, 4, (const int64_t[]){24, 1, 2, 3}, wide, sizeof wide);
    NoiseSource *n = open_source(NOISE_FILE, path, 0, 6, 0);
    float z[3 * 6];
    candidates(n, 1, 1, 2, 3, z); /* update 1 begins at row 6, its second prompt at row 9 */
    for (int i = 0; i < 18; i++) assert_true(z[i] == (float)(9 * 6 + i));
    assert_int_equal(noise_images(n, 23, 1, z, NULL), 0);
    assert_true(z[0] == 23 * 6);
    Error err = {0};
    assert_int_equal(noise_candidates(n, 4, 0, 2, 3, z, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "rows 24 to 26"));
    noise_close(n);
}

static void expect_open_error(const char *path, size_t per_image, float neighbour, int code, const char *word) {
    NoiseSource *n = NULL;
    Error err = {0};
    assert_int_equal(noise_open(NOISE_FILE, path, 0, per_image, neighbour, &n, &err), code);
    assert_null(n);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
}

static void test_file_faults(void **state) {
    (void)state;
    float data[24] = {0};
    int32_t whole[24] = {0};
    expect_open_error(NULL, 6, 0, DRPO_E_USAGE, "path");
    expect_open_error(TEST_TMP "/missing.safetensors", 6, 0, DRPO_E_INPUT, "missing");
    expect_open_error(write_noise("named", "z", DT_F32, 2, (const int64_t[]){4, 6}, data, sizeof data), 6, 0,
                      DRPO_E_INPUT, "'noise'");
    expect_open_error(write_noise("typed", "noise", DT_I32, 2, (const int64_t[]){4, 6}, whole, sizeof whole), 6, 0,
                      DRPO_E_INPUT, "type");
    expect_open_error(write_noise("shaped", "noise", DT_F32, 2, (const int64_t[]){6, 4}, data, sizeof data), 6, 0,
                      DRPO_E_INPUT, "[images, C, H, W]");
    expect_open_error("x", 6, 1.5f, DRPO_E_USAGE, "neighbour");
    data[7] = NAN;
    const char *path = write_noise("nan", "noise", DT_F32, 2, (const int64_t[]){4, 6}, data, sizeof data);
    NoiseSource *n = open_source(NOISE_FILE, path, 0, 6, 0);
    float z[24];
    Error err = {0};
    assert_int_equal(noise_images(n, 0, 4, z, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "row 1"));
    noise_close(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter_based_noise_depends_on_its_key_alone),
        cmocka_unit_test(test_torch_draws_whole_updates_from_one_generator),
        cmocka_unit_test(test_torch_tails),
        cmocka_unit_test(test_images_have_their_own_seeds),
        cmocka_unit_test(test_one_generator_draws_a_batch),
        cmocka_unit_test(test_cuda_generator),
        cmocka_unit_test(test_neighbours_share_a_centre_and_stay_normal),
        cmocka_unit_test(test_file_rows_in_order),
        cmocka_unit_test(test_file_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
