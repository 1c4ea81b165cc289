/* The evaluation table on cases whose answers are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/table.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

static EvalTable table(int rewards) {
    EvalTable t = {.rewards = rewards};
    for (int k = 0; k < rewards; k++) snprintf(t.reward_name[k], sizeof t.reward_name[k], "reward%d", k);
    return t;
}

static void add(EvalTable *t, int prompt, const char *tag, uint64_t seed, int correct, float reward) {
    Error err = {0};
    const float rewards[MAX_REWARDS] = {reward, -reward};
    if (eval_table_add(t, prompt, tag, seed, correct, rewards, &err) < 0) fail_msg("%s", err.text);
}

static EvalSummary summarise(const EvalTable *base, const EvalTable *tuned) {
    EvalSummary s;
    Error err = {0};
    if (eval_summarise(base, tuned, 1, &s, &err) < 0) fail_msg("%s", err.text);
    return s;
}

static const EvalMetric *metric(const EvalSummary *s, const char *name) {
    const EvalMetric *m = eval_metric(s, name);
    if (!m) fail_msg("no metric %s", name);
    return m;
}

/* overall is the mean over TAGS, not over images */
static void test_accuracy_per_tag_and_overall(void **state) {
    (void)state;
    EvalTable t = table(2);
    for (int k = 0; k < 4; k++) add(&t, k, "colors", 1, k < 3, (float)k);
    add(&t, 4, "counting", 1, 0, 10);
    add(&t, 4, "counting", 2, 1, 20);
    add(&t, 5, NULL, 1, -1, 100); /* nobody judged it: only its reward counts */
    const EvalSummary s = summarise(&t, NULL);
    assert_false(s.compared);
    assert_int_equal(s.prompts, 6);
    assert_int_equal(s.images, 7);
    assert_int_equal(s.metrics, 5);
    assert_true(fabs(metric(&s, "colors")->base.value - 0.75) < 1e-12);
    assert_true(fabs(metric(&s, "counting")->base.value - 0.5) < 1e-12);
    assert_true(fabs(metric(&s, "overall")->base.value - 0.625) < 1e-12);
    assert_true(fabs(metric(&s, "reward0")->base.value - 136.0 / 7) < 1e-9);
    assert_true(fabs(metric(&s, "reward1")->base.value + 136.0 / 7) < 1e-9);
    assert_null(eval_metric(&s, "diversity"));
    assert_true(metric(&s, "counting")->base.low == 0.5 &&
                metric(&s, "counting")->base.high == 0.5); /* one prompt: no spread */
    eval_table_free(&t);
}

/* n prompts, each right with the same chance: the interval is about value +- 1.96 sqrt(p (1-p) / n). */
static void test_interval_of_a_proportion(void **state) {
    (void)state;
    EvalTable t = table(0);
    for (int k = 0; k < 400; k++) add(&t, k, "only", 1, k % 4 == 0, 0);
    const EvalSummary s = summarise(&t, NULL);
    const double half = 1.96 * sqrt(0.25 * 0.75 / 400);
    assert_true(fabs(metric(&s, "overall")->base.low - (0.25 - half)) < 0.006);
    assert_true(fabs(metric(&s, "overall")->base.high - (0.25 + half)) < 0.006);
    eval_table_free(&t);
}

/* Prompts differ widely but each gains the same: unpaired the gain would drown, paired it has no spread at all. */
static void test_the_difference_is_paired(void **state) {
    (void)state;
    EvalTable base = table(1), tuned = table(1);
    for (int k = 0; k < 40; k++) {
        add(&base, k, "a", 7, k % 2, (float)k);
        add(&tuned, 39 - k, "a", 7, (39 - k) % 2, (float)(39 - k) + 0.5f); /* the order of rows does not matter */
    }
    const EvalSummary s = summarise(&base, &tuned);
    assert_true(s.compared);
    const EvalMetric *reward = metric(&s, "reward0");
    assert_true(fabs(reward->difference.value - 0.5) < 1e-6);
    assert_true(fabs(reward->difference.low - 0.5) < 1e-6 && fabs(reward->difference.high - 0.5) < 1e-6);
    assert_true(reward->base.high - reward->base.low > 5);
    assert_true(metric(&s, "overall")->difference.value == 0);
    eval_table_free(&base);
    eval_table_free(&tuned);
}

/* 36 of 60 prompts of one tag improve, none of the other's 60. */
static void test_a_real_gain_stands_out(void **state) {
    (void)state;
    EvalTable base = table(0), tuned = table(0);
    for (int k = 0; k < 120; k++) {
        const char *tag = k < 60 ? "a" : "b";
        add(&base, k, tag, 1, 0, 0);
        add(&tuned, k, tag, 1, k < 36, 0);
    }
    const EvalSummary s = summarise(&base, &tuned), again = summarise(&base, &tuned);
    const EvalValue d = metric(&s, "overall")->difference;
    assert_true(fabs(d.value - 0.3) < 1e-12); /* mean of 0.6 and 0 */
    const double half = 1.96 * sqrt(0.6 * 0.4 / 60) / 2;
    assert_true(fabs(d.low - (0.3 - half)) < 0.012 && fabs(d.high - (0.3 + half)) < 0.012);
    assert_true(metric(&s, "b")->difference.low == 0 && metric(&s, "b")->difference.high == 0);
    assert_memory_equal(&s, &again, sizeof s); /* seeded */
    eval_table_free(&base);
    eval_table_free(&tuned);
}

static void test_diversity(void **state) {
    (void)state;
    EvalTable t = table(0);
    Error err = {0};
    add(&t, 3, "a", 1, 1, 0);
    add(&t, 8, "a", 1, 1, 0);
    const float three[3][4] = {{0, 0, 0, 0}, {2, 2, 2, 2}, {0, 0, 4, 0}};
    assert_int_equal(eval_table_add_diversity(&t, 3, three[0], 3, 4, &err), 0);
    const float two[2][4] = {{1, 0, 0, 0}, {0, 0, 0, 0}};
    assert_int_equal(eval_table_add_diversity(&t, 8, two[0], 2, 4, &err), 0);
    assert_int_equal(eval_table_add_diversity(&t, 8, two[0], 1, 4, &err), 0); /* one image has none */
    const EvalSummary s = summarise(&t, NULL);
    const double first = (2 + 2 + 2) / 3.0,
                 second = 0.5; /* sqrt((4+4+4+4)/4), sqrt(16/4), sqrt((4+4+4+4)/4); then sqrt(1/4) */
    assert_true(fabs(metric(&s, "diversity")->base.value - (first + second) / 2) < 1e-12);
    assert_true(fabs(metric(&s, "diversity")->base.low - second) < 1e-12);
    assert_true(fabs(metric(&s, "diversity")->base.high - first) < 1e-12);
    eval_table_free(&t);
}

static void test_mismatched_tables_are_refused(void **state) {
    (void)state;
    EvalTable base = table(0), tuned = table(0), empty = table(0);
    EvalSummary s;
    Error err = {0};
    add(&base, 0, "a", 1, 1, 0);
    add(&tuned, 0, "a", 2, 1, 0);
    assert_int_equal(eval_summarise(&base, &tuned, 1, &s, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "seed 1"));
    add(&tuned, 0, "a", 1, 1, 0);
    error_clear(&err);
    assert_int_equal(eval_summarise(&base, &tuned, 1, &s, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "same prompts"));
    error_clear(&err);
    assert_int_equal(eval_summarise(&empty, NULL, 1, &s, &err), DRPO_E_INPUT);
    eval_table_free(&base);
    eval_table_free(&tuned);
}

static void test_text_and_json(void **state) {
    (void)state;
    EvalTable base = table(1), tuned = table(1);
    for (int k = 0; k < 30; k++) {
        add(&base, k, "colors", 1, k < 3, 1);
        add(&tuned, k, "colors", 1, k < 27, 1.25f);
    }
    const EvalSummary s = summarise(&base, &tuned);
    char *text = eval_summary_text(&s);
    assert_non_null(strstr(text, "overall     0.100     0.900      +0.800"));
    assert_non_null(strstr(text, "reward0     1.000     1.250      +0.250  +0.250 .. +0.250  !"));
    assert_non_null(strstr(text, "30 prompts, 30 images each"));
    free(text);
    json_t *json = eval_summary_json(&s);
    const json_t *entry = json_object_get(json_object_get(json, "metrics"), "overall");
    assert_true(fabs(json_real_value(json_object_get(entry, "difference")) - 0.8) < 1e-12);
    assert_true(json_real_value(json_array_get(json_object_get(entry, "interval"), 0)) > 0.5);
    assert_int_equal(json_integer_value(json_object_get(json, "prompts")), 30);
    json_decref(json);
    const EvalSummary alone = summarise(&base, NULL);
    text = eval_summary_text(&alone);
    assert_non_null(strstr(text, "value"));
    assert_null(strstr(text, "difference"));
    free(text);
    eval_table_free(&base);
    eval_table_free(&tuned);
}

/* a prompt that is taken out was never there */
static void test_dropped_prompts(void **state) {
    (void)state;
    EvalTable with = table(1), without = table(1);
    const float latents[] = {0, 0, 3, 4};
    Error err = {0};
    for (int k = 0; k < 6; k++)
        for (int j = 0; j < 2; j++) {
            add(&with, k, k < 3 ? "a" : "b", (uint64_t)j, k % 2, (float)(k * k + j));
            if (k != 3) add(&without, k, k < 3 ? "a" : "b", (uint64_t)j, k % 2, (float)(k * k + j));
        }
    assert_int_equal(eval_table_add_diversity(&with, 3, latents, 2, 2, &err), 0);
    assert_int_equal(eval_table_add_diversity(&with, 4, latents, 2, 1, &err), 0);
    assert_int_equal(eval_table_add_diversity(&without, 4, latents, 2, 1, &err), 0);
    eval_table_drop(&with, 3);
    eval_table_drop(&with, 77);
    const EvalSummary a = summarise(&with, NULL), b = summarise(&without, NULL);
    assert_true(a.prompts == 5 && a.images == 10 && a.metrics == b.metrics);
    for (int k = 0; k < a.metrics; k++) assert_memory_equal(&a.metric[k].base, &b.metric[k].base, sizeof(EvalValue));
    eval_table_free(&with);
    eval_table_free(&without);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy_per_tag_and_overall),  cmocka_unit_test(test_dropped_prompts),
        cmocka_unit_test(test_interval_of_a_proportion),      cmocka_unit_test(test_the_difference_is_paired),
        cmocka_unit_test(test_a_real_gain_stands_out),        cmocka_unit_test(test_diversity),
        cmocka_unit_test(test_mismatched_tables_are_refused), cmocka_unit_test(test_text_and_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
