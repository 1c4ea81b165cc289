/* Rewards in general: parts and lanes, further attempts, skipping, held-out sets, plugins; whatever the kind. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "step/reward/reward.h"
#include "step/reward/reward_internal.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

enum { COUNT = 13, BYTES = 2 * 2 * 3 };

typedef struct Taste {
    atomic_int calls, at_once, most_at_once, largest;
    int failures;     /* so many calls fail, from now on */
    float not_finite; /* 0: scores are good */
} Taste;

/* The first byte of each picture; early parts take longest. */
static int taste(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                 int width, float *scores) {
    (void)prompt, (void)metadata, (void)height, (void)width;
    Taste *t = user;
    const int now = atomic_fetch_add(&t->at_once, 1) + 1;
    if (now > t->most_at_once) t->most_at_once = now;
    if (count > t->largest) t->largest = count;
    usleep((unsigned)(1000 * (COUNT - rgb[0])));
    for (int k = 0; k < count; k++) scores[k] = rgb[k * BYTES];
    if (t->not_finite != 0) scores[count - 1] = t->not_finite;
    atomic_fetch_sub(&t->at_once, 1);
    atomic_fetch_add(&t->calls, 1);
    return t->failures > 0 && t->failures-- ? 5 : 0;
}

static Pictures numbered(uint8_t *rgb) {
    for (int k = 0; k < COUNT; k++) memset(rgb + k * BYTES, k, BYTES);
    return (Pictures){rgb, COUNT, 2, 2};
}

static Reward *open_taste(Taste *t, const char *options) {
    const RewardCallback callback = {"taste", taste, t};
    char spec[128];
    Reward *r = NULL;
    Error err = {0};
    snprintf(spec, sizeof spec, "callback:taste%s", options);
    if (reward_open(spec, &callback, 1, &r, &err) < 0) fail_msg("%s", err.text);
    return r;
}

static const Prompt prompt = {"a star", NULL, NULL};

static void test_every_division_gives_every_picture_its_score(void **state) {
    (void)state;
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    for (int batch = 0; batch <= COUNT + 1; batch += 2)
        for (int lanes = 1; lanes <= COUNT + 1; lanes += 3) {
            Taste t = {0};
            Reward *r = open_taste(&t, "");
            float scores[COUNT];
            Error err = {0};
            r->lanes = lanes;
            r->batch = batch;
            if (reward_score(r, &prompt, &pictures, scores, NULL, &err) < 0) fail_msg("%s", err.text);
            for (int k = 0; k < COUNT; k++)
                if (scores[k] != k) fail_msg("batch %d, %d lanes: score %d is %g", batch, lanes, k, scores[k]);
            assert_true(t.most_at_once <= lanes);
            assert_true(batch == 0 || t.largest <= batch);
            if (lanes == 4 && batch == 2) assert_true(t.most_at_once > 1);
            if (lanes == 1 && batch == 0) assert_int_equal(t.calls, 1);
            reward_close(r);
        }
}

static void test_attempts(void **state) {
    (void)state;
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    float scores[COUNT];
    for (int failures = 0; failures < 4; failures++) {
        Taste t = {.failures = failures};
        Reward *r = open_taste(&t, "?retries=2&backoff=0.001");
        Error err = {0}, fault = {0};
        const int code = reward_score(r, &prompt, &pictures, scores, &fault, &err);
        assert_int_equal(code, failures < 3 ? 0 : DRPO_E_REWARD);
        assert_int_equal(r->faults, failures);
        assert_int_equal(t.calls, failures < 3 ? failures + 1 : 3);
        if (failures == 3) assert_non_null(strstr(err.text, "returned 5"));
        if (failures == 3) assert_non_null(strstr(err.text, "(3 attempts)"));
        if (failures == 1) assert_non_null(strstr(fault.text, "returned 5"));
        for (int k = 0; k < COUNT; k++) assert_true(scores[k] == (failures < 3 ? k : 0));
        reward_close(r);
    }
}

static void test_no_score_that_is_not_finite_comes_out(void **state) {
    (void)state;
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int b = 0; b < 3; b++)
        for (int lanes = 1; lanes < 4; lanes++) {
            Taste t = {.not_finite = bad[b]};
            Reward *r = open_taste(&t, "");
            float scores[COUNT];
            Error err = {0};
            r->lanes = lanes;
            assert_int_equal(reward_score(r, &prompt, &pictures, scores, NULL, &err), DRPO_E_REWARD);
            assert_non_null(strstr(err.text, "is not a finite number"));
            assert_non_null(strstr(err.text, "callback:taste"));
            reward_close(r);
        }
}

static void keep_line(void *user, int level, const char *text) {
    if (level == 1) snprintf(user, 512, "%s", text);
}

static void test_skipping_and_giving_up(void **state) {
    (void)state;
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    Taste t = {.failures = 1};
    const RewardCallback callback = {"taste", taste, &t};
    RewardSet set;
    Error err = {0};
    char line[512] = "";
    float raw[COUNT];
    double ensemble[COUNT];
    assert_int_equal(reward_set_open((const char *const[]){"callback:taste"}, 1, &callback, 1, &set, &err), 0);
    int code = reward_set_score(&set, &prompt, &pictures, raw, ensemble, &err);
    assert_false(reward_set_forgive(&set, code, &err)); /* the default is to stop */
    assert_int_equal(err.code, DRPO_E_REWARD);
    set.skip = true;
    set.log = (Log){keep_line, line};
    for (int round = 0; round < 2; round++) { /* 18 failures, a success, 19 failures, one more */
        t.failures = round ? 1000 : 18;
        for (int k = 0; k < (round ? 19 : 18); k++) {
            error_clear(&err);
            code = reward_set_score(&set, &prompt, &pictures, raw, ensemble, &err);
            assert_true(reward_set_forgive(&set, code, &err));
            assert_int_equal(err.code, 0);
            assert_non_null(strstr(line, "returned 5 for the prompt 'a star'; the prompt is skipped"));
        }
        code = reward_set_score(&set, &prompt, &pictures, raw, ensemble, &err);
        assert_false(reward_set_forgive(&set, code, &err));
        if (round == 0) assert_int_equal(code, 0);
    }
    assert_non_null(strstr(err.text, "20 prompts in a row"));
    assert_int_equal(reward_set_faults(&set), 1 + 18 + 20);
    assert_false(reward_set_forgive(&set, DRPO_E_INPUT, &err)); /* only the reward's own faults */
    reward_set_close(&set);
}

static void test_held_out(void **state) {
    (void)state;
    Taste t = {0};
    const RewardCallback callback = {"taste", taste, &t};
    RewardSet set;
    Error err = {0};
    assert_int_equal(reward_set_open_heldout(NULL, 0, NULL, 0, &set, &err), 0);
    assert_int_equal(set.count, 0);
    assert_int_equal(
        reward_set_open_heldout((const char *const[]){"callback:taste", "scene"}, 2, &callback, 1, &set, &err), 0);
    assert_int_equal(set.count, 2);
    reward_set_close(&set);
    assert_int_equal(reward_set_open_heldout((const char *const[]){"scene@2"}, 1, NULL, 0, &set, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, "only measured"));
}

/* ---- plugins ---- */

static int open_plugin(const char *path, const char *options, Reward **out, Error *err) {
    char spec[1200];
    snprintf(spec, sizeof spec, "plugin:%s%s", path, options);
    error_clear(err);
    return reward_open(spec, NULL, 0, out, err);
}

static void test_plugin(void **state) {
    (void)state;
    uint8_t rgb[2 * BYTES] = {0};
    for (int p = 0; p < BYTES; p += 3) rgb[p] = rgb[BYTES + p + 1] = 255; /* a red picture, a green one */
    const Pictures pictures = {rgb, 2, 2, 2};
    float scores[2];
    Reward *r = NULL;
    Error err = {0};
    if (open_plugin(PLUGINS "/redness.so", "", &r, &err) < 0) fail_msg("%s", err.text);
    assert_string_equal(r->name, "plugin_redness");
    assert_int_equal(reward_score(r, &prompt, &pictures, scores, NULL, &err), 0);
    assert_true(scores[0] == 1 && scores[1] == -0.5f);
    reward_close(r);
    if (open_plugin(PLUGINS "/redness.so", "?strength=-2&name=blush&batch=1", &r, &err) < 0) fail_msg("%s", err.text);
    assert_string_equal(r->name, "blush");
    assert_int_equal(reward_score(r, &prompt, &pictures, scores, NULL, &err), 0);
    assert_true(scores[0] == -2 && scores[1] == 1);
    reward_close(r);
    assert_int_equal(open_plugin(PLUGINS "/redness.so", "?size=3", &r, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "strength=NUMBER"));
    assert_int_equal(open_plugin("/nowhere/taste.so", "", &r, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "/nowhere/taste.so"));
    assert_int_equal(open_plugin("libm.so.6", "", &r, &err), DRPO_E_INPUT); /* not searched for in the system */
    assert_non_null(strstr(err.text, "./libm.so.6"));
}

static void test_faulty_plugin(void **state) {
    (void)state;
    static const struct {
        const char *options, *words;
    } faults[] = {{"?do=nan", "score 1 of 13 is not a finite number"},
                  {"?do=nothing", "is not a finite number"},
                  {"?do=refuse", "returned 9: no paint left"}};
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    float scores[COUNT];
    Reward *r = NULL;
    Error err = {0};
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        if (open_plugin(PLUGINS "/faulty_plugin.so", faults[k].options, &r, &err) < 0) fail_msg("%s", err.text);
        assert_int_equal(reward_score(r, &prompt, &pictures, scores, NULL, &err), DRPO_E_REWARD);
        if (!strstr(err.text, faults[k].words)) fail_msg("'%s' lacks '%s'", err.text, faults[k].words);
        for (int i = 0; i < COUNT; i++) assert_true(scores[i] == 0);
        reward_close(r);
    }
    assert_int_equal(open_plugin(PLUGINS "/empty_plugin.so", "", &r, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "no function drpo_reward_open"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_division_gives_every_picture_its_score),
        cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_no_score_that_is_not_finite_comes_out),
        cmocka_unit_test(test_skipping_and_giving_up),
        cmocka_unit_test(test_held_out),
        cmocka_unit_test(test_plugin),
        cmocka_unit_test(test_faulty_plugin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
