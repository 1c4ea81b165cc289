/* What holds for every drift whatever its numbers: the gradient of a regression, symmetries, equal bytes for any number
 * of threads; and errors that name their cause. */
#include <stdlib.h>

#include "step/drift_problem.h"

static double max_difference(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

/* mean((x/s - goal)^2) with goal = x0/s + F fixed: its numerical derivative at x0 is the closed form. */
static void test_gradient_is_that_of_the_regression(void **state) {
    (void)state;
    Problem q = problem(6, 3, 2, 5);
    solve(&q);
    const double s = q.result.scale_per_dim, count = 6 * 5, h = 1e-3;
    for (size_t k = 0; k < 30; k++) {
        double value[2];
        for (int side = 0; side < 2; side++) {
            double loss = 0;
            for (size_t i = 0; i < 30; i++) {
                const double x = q.x[i] + (i == k ? (side ? h : -h) : 0);
                const double off = x / s - (q.x[i] / s + q.force[i]);
                loss += off * off / count;
            }
            value[side] = loss;
        }
        assert_true(fabs((value[1] - value[0]) / (2 * h) - q.grad[k]) < 1e-5);
    }
    free_problem(&q);
}

static void test_one_radius_has_loss_one(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        Problem q = problem(12, 4, 4, 9);
        q.in.n_radii = 1;
        q.in.kernel = kernel;
        solve(&q);
        assert_true(fabs(q.result.loss - 1) < 1e-6);
        free_problem(&q);
    }
}

static void test_permuted_samples_permute_the_force(void **state) {
    (void)state;
    Problem q = problem(150, 4, 5, 6), turned = problem(150, 4, 5, 6);
    for (size_t i = 0; i < 150; i++) memcpy(turned.x + i * 6, q.x + (i * 7 % 150) * 6, 6 * sizeof(float));
    solve(&q);
    solve(&turned);
    for (size_t i = 0; i < 150; i++)
        assert_true(max_difference(turned.force + i * 6, q.force + (i * 7 % 150) * 6, 6) < 2e-5);
    free_problem(&q);
    free_problem(&turned);
}

static void test_translation_and_scale_do_not_change_the_force(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 2; kernel++) {
        Problem q = problem(10, 4, 3, 8), moved = problem(10, 4, 3, 8);
        q.in.kernel = moved.in.kernel = kernel;
        float *all[] = {moved.x, moved.pos, moved.neg};
        const size_t rows[] = {10, 4, 3};
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < rows[k] * 8; i++) all[k][i] = 8 * (all[k][i] + 4);
        solve(&q);
        solve(&moved);
        assert_true(max_difference(q.force, moved.force, 80) < 2e-5);
        for (size_t i = 0; i < 80; i++)
            assert_true(fabs(q.grad[i] / 8 - moved.grad[i]) < 1e-6); /* the gradient goes as 1/s */
        free_problem(&q);
        free_problem(&moved);
    }
}

static void test_identical_points_stay(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        Problem q = problem(7, 3, 2, 11);
        q.in.kernel = kernel;
        float *all[] = {q.x, q.pos, q.neg};
        const size_t rows[] = {7, 3, 2};
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < rows[k] * 11; i++) all[k][i] = 1.2345678f * (float)(i % 11);
        solve(&q);
        for (size_t i = 0; i < 77; i++) assert_true(q.force[i] == 0 && q.grad[i] == 0);
        assert_true(q.result.loss == 0);
        if (kernel == 0) assert_true(fabs(q.result.scale - 1e-3) < 1e-9);
        free_problem(&q);
    }
}

static void test_dipole_pulls_to_the_positive(void **state) {
    (void)state;
    float x = 0, pos = 1, neg = -1, force, grad;
    for (int kernel = 0; kernel < 2; kernel++) {
        const DriftInput in = {&x, &pos, &neg, 1, 1, 1, 1, 10, 10, RADII, 3, kernel, false, false};
        assert_int_equal(drift_field(&in, 1, &force, &grad, NULL, NULL), 0);
        assert_true(force > 0 && grad < 0);
        const DriftInput turned = {&x, &neg, &pos, 1, 1, 1, 1, 10, 10, RADII, 3, kernel, false, false};
        assert_int_equal(drift_field(&turned, 1, &force, &grad, NULL, NULL), 0);
        assert_true(force < 0 && grad > 0);
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    Problem q = problem(300, 100, 90, 300), other = problem(300, 100, 90, 300);
    Error err = {0};
    assert_int_equal(drift_field(&q.in, 1, q.force, q.grad, &q.result, &err), 0);
    for (int threads = 2; threads < 5; threads++) {
        assert_int_equal(drift_field(&other.in, threads, other.force, other.grad, &other.result, &err), 0);
        assert_memory_equal(q.force, other.force, 300 * 300 * sizeof(float));
        assert_memory_equal(q.grad, other.grad, 300 * 300 * sizeof(float));
        assert_memory_equal(&q.result, &other.result, sizeof q.result);
    }
    free_problem(&q);
    free_problem(&other);
}

/* ---- errors ---- */

static void expect_error(Problem q, int code, const char *word) {
    Error err = {0};
    assert_int_equal(drift_field(&q.in, 1, q.force, q.grad, NULL, &err), code);
    assert_non_null(strstr(err.text, word));
}

static void test_errors_name_the_cause(void **state) {
    (void)state;
    Problem q = problem(5, 3, 2, 4), bad = q;
    bad.in.p = 0;
    expect_error(bad, DRPO_E_USAGE, "positives");
    bad = q;
    bad.in.mask_negative_self = true;
    expect_error(bad, DRPO_E_USAGE, "diagonal");
    bad = q;
    bad.in.mask_positive_self = true;
    expect_error(bad, DRPO_E_USAGE, "diagonal");
    bad = q;
    bad.in.kernel = 3;
    expect_error(bad, DRPO_E_USAGE, "laplacian");
    bad = q;
    bad.in.radii = (const float[]){0.1f, 0, 0.2f};
    expect_error(bad, DRPO_E_USAGE, "radius");
    bad = q;
    bad.in.w_neg = NAN;
    expect_error(bad, DRPO_E_USAGE, "weight");
    q.pos[5] = INFINITY;
    expect_error(q, DRPO_E_NUMERIC, "anchor row");
    q.x[4] = NAN;
    q.pos[5] = 0;
    expect_error(q, DRPO_E_NUMERIC, "sample row 1");
    free_problem(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient_is_that_of_the_regression),
        cmocka_unit_test(test_one_radius_has_loss_one),
        cmocka_unit_test(test_permuted_samples_permute_the_force),
        cmocka_unit_test(test_translation_and_scale_do_not_change_the_force),
        cmocka_unit_test(test_identical_points_stay),
        cmocka_unit_test(test_dipole_pulls_to_the_positive),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_errors_name_the_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
