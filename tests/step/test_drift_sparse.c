/* The drift of many targets (exceptions from the floor of the affinity) against that of few (products of matrices), at
 * every instruction set; and the loops' exponential and log-sum-exp against libm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "step/drift_internal.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

enum { SAMPLES = 330, OTHERS = 330, DIM = 9 };

static const float RADII[3] = {0.02f, 0.05f, 0.2f}, WIDE[3] = {40, 200, 0.3f};

static void fill_rows(uint32_t stream, float *x, size_t rows) {
    rng_normal((RngKey){7, RNG_TEST, stream, 0, 0}, x, rows * DIM);
    for (size_t k = 0; k < DIM; k++) x[7 * DIM + k] = x[3 * DIM + k];         /* the same point twice */
    for (size_t k = 0; k < DIM; k++) x[9 * DIM + k] = x[4 * DIM + k] + 1e-4f; /* and nearly */
}

typedef struct Case {
    int kernel, level, threads;
    const float *radii;
    size_t dense_columns;
} Case;

/* Attractors and repellers among the samples and beside them, open and masked: every kind of column. */
static DriftResult solve(const float *x, const float *other, Case k, float *force) {
    const float *base[2] = {x, other};
    const size_t count[2] = {SAMPLES, OTHERS};
    Error err = {0};
    Cloud cloud;
    Term term;
    DriftResult result;
    assert_int_equal(cloud_open(&cloud, 2, base, count, DIM, k.threads, &err), 0);
    cloud.kernels = drift_kernels(k.level);
    cloud.threads = cloud.threads < k.threads ? cloud.threads : k.threads;
    assert_int_equal(term_open(&term, cloud.rows, SAMPLES, &err), 0);
    for (size_t j = 0; j < 40; j++) term_add(&term, 2 * j, 3000, true, -1);
    for (size_t j = 0; j < 40; j++) term_add(&term, 100 + 3 * j, 2000, false, -1);
    for (size_t j = 0; j < SAMPLES; j++) term_add(&term, j, 500, false, (ptrdiff_t)j);
    for (size_t j = 0; j < OTHERS; j++)
        term_add(&term, SAMPLES + j, 3500, true, j % 3 ? (ptrdiff_t)(OTHERS - 1 - j) : -1);
    term.radii = k.radii;
    term.n_radii = 3;
    term.kernel = k.kernel;
    term.dense_columns = k.dense_columns;
    term_scale(&term, &cloud);
    if (k.kernel == 2) cloud_use_cosine(&cloud);
    if (term_field(&term, &cloud, force, NULL, 0, 1, &result, &err) < 0) fail_msg("%s", err.text);
    term_close(&term);
    cloud_close(&cloud);
    return result;
}

static double relative(const float *a, const float *b, size_t n) {
    double off = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(off / norm);
}

static void test_sparse_agrees_with_dense(void **state) {
    (void)state;
    static float x[SAMPLES * DIM], other[OTHERS * DIM], dense[SAMPLES * DIM], sparse[SAMPLES * DIM];
    fill_rows(1, x, SAMPLES);
    fill_rows(2, other, OTHERS);
    for (int kernel = 0; kernel < 3; kernel++)
        for (int wide = 0; wide < 2; wide++) { /* wide radii: masked entries leave the floor too */
            Case k = {kernel, DRIFT_KERNELS_BEST, 1, wide ? WIDE : RADII, SIZE_MAX};
            const DriftResult want = solve(x, other, k, dense);
            for (k.level = 0; k.level <= DRIFT_KERNELS_BEST; k.level++) {
                k.dense_columns = 0;
                const DriftResult got = solve(x, other, k, sparse);
                const double off = relative(sparse, dense, SAMPLES * DIM);
                if (off > 1e-5) fail_msg("kernel %d, wide %d, level %d: off by %g", kernel, wide, k.level, off);
                for (int r = 0; r < 3; r++) assert_true(fabs(got.rms[r] - want.rms[r]) < 1e-5 * want.rms[r]);
                k.dense_columns = SIZE_MAX;
                solve(x, other, k, sparse);
                assert_true(relative(sparse, dense, SAMPLES * DIM) < 1e-5);
            }
        }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    static float x[SAMPLES * DIM], other[OTHERS * DIM], one[SAMPLES * DIM], more[SAMPLES * DIM];
    fill_rows(1, x, SAMPLES);
    fill_rows(2, other, OTHERS);
    Case k = {0, DRIFT_KERNELS_BEST, 1, RADII, 0};
    const DriftResult want = solve(x, other, k, one);
    for (k.threads = 2; k.threads < 5; k.threads++) {
        const DriftResult got = solve(x, other, k, more);
        assert_memory_equal(one, more, sizeof one);
        assert_memory_equal(&want, &got, sizeof want);
    }
}

/* Logits over the whole range of float64's exponent: the largest decides, sums keep their digits. */
static void test_running_sums_agree_with_libm(void **state) {
    (void)state;
    double tile[4 * DRIFT_TILE];
    for (int spread = 0; spread < 4; spread++)
        for (int level = 0; level <= DRIFT_KERNELS_BEST; level++) {
            const double wide[] = {1e-3, 1, 30, 2000};
            const DriftCurve curve = {-1, 0};
            double max[DRIFT_COLUMNS], sum[DRIFT_COLUMNS] = {0}, least[4], row[DRIFT_ROWS], count[DRIFT_COLUMNS];
            for (size_t k = 0; k < 4 * DRIFT_TILE; k++) tile[k] = wide[spread] * (1 + sin((double)(k * k % 611)));
            for (size_t u = 0; u < DRIFT_COLUMNS; u++) max[u] = -1e300, count[u] = 1 + (double)(u % 3);
            drift_kernels(level)->columns(tile, 2, &curve, 1, DRIFT_COLUMNS, max, sum);
            drift_kernels(level)->columns(tile + 2 * DRIFT_TILE, 2, &curve, 1, DRIFT_COLUMNS, max, sum);
            drift_kernels(level)->rows(tile, 4, count, &curve, 1, least, row);
            for (size_t u = 0; u < DRIFT_COLUMNS; u++) {
                double want = 0;
                for (size_t i = 0; i < 4; i++) want += exp(-tile[i * DRIFT_TILE + u] - max[u]);
                assert_true(fabs(sum[u] - want) < 1e-9 * want);
            }
            for (size_t i = 0; i < 4; i++) {
                double want = 0;
                for (size_t u = 0; u < DRIFT_COLUMNS; u++) want += count[u] * exp(least[i] - tile[i * DRIFT_TILE + u]);
                assert_true(fabs(row[i] - want) < 1e-9 * want);
            }
        }
}

/* Weights may be zero (-INFINITY) and columns absent; coefficients are added to what is there. */
static void test_softmax_of_a_row_agrees_with_libm(void **state) {
    (void)state;
    enum { N = 24, SEEN = 19 };
    const DriftCurve curves[] = {{-1, 0}, {-300, 0}, {0, -0.5}, {40, 0}};
    for (size_t c = 0; c < sizeof curves / sizeof *curves; c++)
        for (int level = 0; level <= DRIFT_KERNELS_BEST; level++) {
            double measure[N], shift[N], part[N], got[N], want[N], sum = 0;
            for (size_t u = 0; u < N; u++) {
                measure[u] = u < SEEN ? fabs(sin((double)u)) : curves[c].linear > 0 ? -DRIFT_FAR : DRIFT_FAR;
                shift[u] = u == 3 ? -INFINITY : -(double)(u % 5);
                want[u] = exp(curves[c].linear * measure[u] + curves[c].quadratic * measure[u] * measure[u] + shift[u]);
                sum += want[u];
                got[u] = 7;
            }
            drift_kernels(level)->soften(measure, shift, N, curves[c], -2, part, got);
            for (size_t u = 0; u < N; u++) assert_true(fabs(got[u] - (7 - 2 * want[u] / sum)) < 1e-9);
        }
}

static void test_distances_agree_with_libm(void **state) {
    (void)state;
    double product[DRIFT_COLUMNS], square[DRIFT_COLUMNS], tile[DRIFT_TILE], margin, own = 3;
    for (size_t u = 0; u < DRIFT_COLUMNS; u++) {
        square[u] = pow(10, (double)u / 4 - 6);
        product[u] = sqrt(own * square[u]) * cos((double)u);
    }
    for (int level = 0; level <= DRIFT_KERNELS_BEST; level++) {
        drift_kernels(level)->distances(product, &own, square, 1, tile, &margin);
        double least = INFINITY;
        for (size_t u = 0; u < DRIFT_COLUMNS; u++) {
            const double want = own + square[u] - 2 * product[u];
            least = fmin(least, want - DRIFT_NEAR * (own + square[u]));
            assert_true(fabs(tile[u] - sqrt(want)) < 1e-13 * sqrt(want));
        }
        assert_true(fabs(margin - least) < 1e-12);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sparse_agrees_with_dense),     cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_running_sums_agree_with_libm), cmocka_unit_test(test_softmax_of_a_row_agrees_with_libm),
        cmocka_unit_test(test_distances_agree_with_libm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
