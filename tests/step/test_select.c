/* The ranking of candidates: order, ties, skips, errors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "step/select.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

static Selection choose(const double *scores, int count, int positives, int negatives, double min_spread) {
    Selection s;
    Error err = {0};
    if (select_candidates(scores, count, positives, negatives, min_spread, &s, &err) < 0) fail_msg("%s", err.text);
    return s;
}

static void test_best_first_worst_last(void **state) {
    (void)state;
    const double scores[] = {0.1, 0.9, -3, 0.5, 0.7, -1};
    const Selection s = choose(scores, 6, 2, 3, 0);
    assert_false(s.skip);
    assert_int_equal(s.n_pos, 2);
    assert_int_equal(s.n_neg, 3);
    assert_int_equal(s.pos[0], 1);
    assert_int_equal(s.pos[1], 4);
    assert_int_equal(s.neg[0], 0);
    assert_int_equal(s.neg[1], 5);
    assert_int_equal(s.neg[2], 2);
}

static void test_equal_scores_rank_the_lower_index_first(void **state) {
    (void)state;
    const double scores[] = {1, 2, 2, 1, 2, 1};
    const Selection s = choose(scores, 6, 3, 3, 0);
    const int best[] = {1, 2, 4}, worst[] = {0, 3, 5};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(s.pos[k], best[k]);
        assert_int_equal(s.neg[k], worst[k]);
    }
}

static void test_skips_what_says_nothing(void **state) {
    (void)state;
    assert_true(choose((const double[]){2, 2, 2}, 3, 1, 1, 0).skip);
    assert_true(choose((const double[]){2, 2.05, 2}, 3, 1, 1, 0.1).skip);
    assert_true(choose((const double[]){0, 0.5, 0}, 3, 1, 1, 0.5).skip); /* a spread of just min_spread too */
    assert_false(choose((const double[]){0, 0.51, 0}, 3, 1, 1, 0.5).skip);
    assert_true(choose((const double[]){1, NAN, 3}, 3, 1, 1, 0).skip);
    assert_true(choose((const double[]){1, 2, INFINITY}, 3, 1, 1, 0).skip);
    assert_int_equal(choose((const double[]){2, 2, 2}, 3, 1, 1, 0).n_pos, 0);
}

static void expect_usage(int count, int positives, int negatives, const char *word) {
    static const double scores[MAX_CANDIDATES + 1] = {1, 2, 3};
    Selection s;
    Error err = {0};
    assert_int_equal(select_candidates(scores, count, positives, negatives, 0, &s, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, word));
}

static void test_errors(void **state) {
    (void)state;
    expect_usage(4, 3, 2, "exceed");
    expect_usage(4, 0, 2, "positives");
    expect_usage(4, 2, 0, "negatives");
    expect_usage(1, 1, 1, "candidates");
    expect_usage(MAX_CANDIDATES + 1, 1, 1, "candidates");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_first_worst_last),
        cmocka_unit_test(test_equal_scores_rank_the_lower_index_first),
        cmocka_unit_test(test_skips_what_says_nothing),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
