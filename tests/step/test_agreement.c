/* Agreement of two rankings: Kendall's tau-b with ties, what would have been chosen, verdicts. */
#include <math.h>

#include "check.h"
#include "step/agreement.h"
#include "step/select.h"

static void check_close(double got, double wanted) {
    if (!(fabs(got - wanted) < 1e-12)) fail_msg("%.15g instead of %.15g", got, wanted);
}

/* Values of scipy.stats.kendalltau. */
static void test_tau(void **state) {
    (void)state;
    const double x[] = {1, 2, 3, 4, 5}, back[] = {5, 4, 3, 2, 1}, mixed[] = {3, 1, 4, 2, 5};
    const double ties[] = {1, 1, 2, 2, 3}, more[] = {1, 2, 2, 2, 5}, same[] = {7, 7, 7, 7, 7};
    check_close(agreement_tau(x, x, 5), 1);
    check_close(agreement_tau(x, back, 5), -1);
    check_close(agreement_tau(x, mixed, 5), 0.4);
    check_close(agreement_tau(x, ties, 5), 0.8944271909999159);
    check_close(agreement_tau(ties, more, 5), 0.8017837257372732);
    assert_true(isnan(agreement_tau(x, same, 5)) && isnan(agreement_tau(same, x, 5)));
}

/* Of six: two on each side, or verdicts. */
static void add(Agreement *a, const double *small, const double *full, bool ranked) {
    Error err = {0};
    Selection x, y;
    assert_ok(select_candidates(small, 6, 2, 2, 0, &x, &err), err);
    assert_ok(select_candidates(full, 6, 2, 2, 0, &y, &err), err);
    agreement_add(a, &(Ranking){small, ranked ? &x : NULL}, &(Ranking){full, ranked ? &y : NULL}, 6);
}

static void test_choice(void **state) {
    (void)state;
    const double full[] = {6, 5, 4, 3, 2, 1}, within[] = {50, 60, 40, 30, 10, 20}, over[] = {6, 4, 5, 3, 2, 1},
                 flat[] = {1, 1, 1, 1, 1, 1};
    Agreement a = {0}, rest = {0};
    add(&a, within, full, true); /* other places, the same choice */
    assert_true(a.prompts == 1 && a.ranked == 1 && a.chosen == 1 && a.same == 1 && a.tau < 1);
    add(&rest, over, full, true); /* one of four is another */
    add(&rest, flat, full, true); /* skipped where the full decoder would have chosen */
    add(&rest, flat, flat, true); /* skipped by both */
    agreement_join(&a, &rest);
    assert_true(a.prompts == 4 && a.ranked == 2);
    const double tau = a.tau / 2;
    agreement_finish(&a);
    check_close(a.chosen, (1 + 0.75 + 0 + 1) / 4);
    check_close(a.same, 0.5);
    check_close(a.tau, tau);
    Agreement none = {0};
    agreement_finish(&none);
    assert_true(none.prompts == 0 && none.tau == 0);
    add(&none, flat, flat, true);
    agreement_finish(&none);
    assert_true(isnan(none.tau)); /* nothing was ranked: no number, not a good one */
}

static void test_verdicts(void **state) {
    (void)state;
    const double small[] = {1, 1, 0, 0, 1, 1}, full[] = {1, 0, 0, 0, 1, 1};
    Agreement a = {0};
    add(&a, small, full, false);
    check_close(a.chosen, 5.0 / 6);
    assert_true(a.same == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tau), cmocka_unit_test(test_choice),
                                       cmocka_unit_test(test_verdicts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
