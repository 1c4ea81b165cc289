/* Inner parts of the drift: its kernels, streaming of large sets, and both terms of a feature key. */
#include <stdlib.h>

#include "step/drift_internal.h"
#include "step/drift_problem.h"

/* ---- inner parts ---- */

static void test_kernels_agree(void **state) {
    (void)state;
    const size_t rows = 16, columns = 12, depth = 40, count = 300, width = 64;
    double *a = calloc(rows * DRIFT_DEPTH, sizeof *a), *b = calloc(columns * DRIFT_DEPTH, sizeof *b);
    float *c = random_rows(21, rows, count, 0, 1), *points = random_rows(22, width, count, 0, 1);
    for (size_t i = 0; i < rows * DRIFT_DEPTH; i++) a[i] = sin((double)i);
    for (size_t i = 0; i < columns * DRIFT_DEPTH; i++) b[i] = cos((double)i);
    for (int level = 0; level <= DRIFT_KERNELS_BEST; level++) {
        double *dots = calloc(rows * DRIFT_COLUMNS, sizeof *dots);
        float *mix = calloc(rows * DRIFT_WIDTH, sizeof *mix);
        drift_kernels(level)->dots(a, b, rows, columns, depth, dots);
        drift_kernels(level)->mix(c, count, rows, points, count, width, mix);
        for (size_t i = 0; i < rows; i++) {
            for (size_t j = 0; j < columns; j++) {
                double want = 0;
                for (size_t k = 0; k < depth; k++) want += a[i * DRIFT_DEPTH + k] * b[j * DRIFT_DEPTH + k];
                assert_true(fabs(want - dots[i * DRIFT_COLUMNS + j]) < 1e-12);
            }
            for (size_t k = 0; k < width; k++) {
                double want = 0;
                for (size_t j = 0; j < count; j++)
                    want += (double)c[i * count + j] *
                            points[(k / DRIFT_PANEL * count + j) * DRIFT_PANEL + k % DRIFT_PANEL];
                assert_true(fabs(want - mix[i * DRIFT_WIDTH + k]) < 1e-4);
            }
        }
        free(dots);
        free(mix);
    }
    free(a);
    free(b);
    free(c);
    free(points);
}

/* Sets too large for the cache are measured again in every pass; the field must not notice. */
static void test_streaming_equals_cached(void **state) {
    (void)state;
    Problem q = problem(300, 20, 30, 20);
    for (int kernel = 0; kernel < 3; kernel += 2) {
        float *force[2];
        for (int streamed = 0; streamed < 2; streamed++) {
            Error err = {0};
            Cloud cloud;
            Term term;
            DriftResult result;
            const float *base[] = {q.x, q.neg, q.pos};
            const size_t count[] = {300, 30, 20};
            assert_int_equal(cloud_open(&cloud, 3, base, count, 20, 2, &err), 0);
            if (streamed) {
                free(cloud.cache);
                cloud.cache = NULL;
                cloud.block = malloc(DRIFT_ROWS * cloud.rows * sizeof(double));
            }
            assert_int_equal(term_open(&term, cloud.rows, 300, &err), 0);
            for (size_t j = 0; j < 30; j++) term_add(&term, 300 + j, 3000, false, -1);
            for (size_t j = 0; j < 20; j++) term_add(&term, 330 + j, 3000, true, -1);
            term.radii = RADII;
            term.n_radii = 3;
            term.kernel = kernel;
            term_scale(&term, &cloud);
            if (kernel == 2) cloud_use_cosine(&cloud);
            force[streamed] = malloc(300 * 20 * sizeof(float));
            assert_int_equal(term_field(&term, &cloud, force[streamed], NULL, 0, 1, &result, &err), 0);
            term_close(&term);
            cloud_close(&cloud);
        }
        assert_memory_equal(force[0], force[1], 300 * 20 * sizeof(float));
        free(force[0]);
        free(force[1]);
    }
    free_problem(&q);
}

/* ---- both terms of a feature key ---- */

static float *take_tokens(const float *x, const int *candidate, int count, size_t block) {
    float *out = malloc((size_t)count * block * sizeof *out);
    for (int k = 0; k < count; k++)
        memcpy(out + (size_t)k * block, x + (size_t)candidate[k] * block, block * sizeof *out);
    return out;
}

static void check_feature(int kernel, float lambda, bool mask_reference) {
    enum { K = 6, TOKENS = 3, DIM = 10, N = K * TOKENS, BLOCK = TOKENS * DIM };
    float *policy = random_rows(31, N, DIM, 0, 1), *reference = random_rows(32, N, DIM, 0, 1), grad[N * DIM],
          want[2][N * DIM];
    const Selection sel = {.n_pos = 2, .n_neg = 3, .pos = {4, 1}, .neg = {0, 5, 2}};
    const DriftOptions opt = {.kernel = kernel,
                              .radii = {0.02f, 0.05f, 0.2f},
                              .n_radii = 3,
                              .w_pos = 3000,
                              .w_neg = 2000,
                              .w_ref = 3500,
                              .w_ref_neg = 5000,
                              .lambda_ref = lambda,
                              .mask_reference = mask_reference};
    FeatureSet set = {
        .tokens = TOKENS, .dim = DIM, .policy = policy, .reference = lambda > 0 ? reference : NULL, .grad = grad};
    DriftResult pref, ref, alone[2];
    Error err = {0};
    if (drift_feature(&set, K, &sel, &opt, 2, &pref, &ref, &err) < 0) fail_msg("%s", err.text);
    float *pos = take_tokens(policy, sel.pos, sel.n_pos, BLOCK), *neg = take_tokens(policy, sel.neg, sel.n_neg, BLOCK);
    const DriftInput first = {policy, pos,  neg,       N, 2 * TOKENS, 3 * TOKENS, DIM,
                              3000,   2000, opt.radii, 3, kernel,     false,      false};
    const DriftInput second = {policy, reference, policy,    N, N,      N,    DIM,
                               3500,   5000,      opt.radii, 3, kernel, true, mask_reference};
    assert_int_equal(drift_field(&first, 1, NULL, want[0], &alone[0], &err), 0);
    assert_int_equal(drift_field(&second, 1, NULL, want[1], &alone[1], &err), 0);
    double norm = 0, off = 0;
    for (size_t i = 0; i < N * DIM; i++) {
        const double both = want[0][i] + (double)lambda * want[1][i];
        norm += both * both;
        off += (grad[i] - both) * (grad[i] - both);
    }
    assert_true(sqrt(off) < 3e-6 * sqrt(norm));
    assert_true(fabs(pref.loss - alone[0].loss) < 1e-5);
    assert_true(fabs(ref.loss - (lambda > 0 ? alone[1].loss : 0)) < 1e-5);
    free(pos);
    free(neg);
    free(policy);
    free(reference);
}

static void test_feature_is_preference_plus_reference(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        check_feature(kernel, 0.25f, false);
        check_feature(kernel, 0.25f, true);
        check_feature(kernel, 0, false);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_streaming_equals_cached),
        cmocka_unit_test(test_feature_is_preference_plus_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
