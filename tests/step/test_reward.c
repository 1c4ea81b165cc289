/* Rewards: specifications, callbacks, sets and ensembles. */
#include <math.h>

#include "step/reward/reward.h"
#include "step/reward/reward_internal.h"
#include "step/reward_worker.h"

/* ---- specifications ---- */

static void check_spec(const char *text, const char *name, const char *argument, int options, double weight) {
    RewardSpec s;
    Error err = {0};
    if (reward_spec_parse(text, &s, &err) < 0) fail_msg("%s", err.text);
    assert_string_equal(s.name, name);
    assert_string_equal(s.argument, argument);
    assert_int_equal(s.n_options, options);
    assert_true(fabs(s.weight - weight) < 1e-6);
    reward_spec_free(&s);
}

static void test_specifications(void **state) {
    (void)state;
    check_spec("scene", "scene", "", 0, 1);
    check_spec("scene@0.5", "scene", "", 0, 0.5);
    check_spec("exec:python3 a.py?images=rgb&timeout=3@2", "exec", "python3 a.py", 2, 2);
    check_spec("exec:ssh me@host score", "exec", "ssh me@host score", 0, 1);
    check_spec("exec:ssh me@host score@.25", "exec", "ssh me@host score", 0, 0.25);
    check_spec("exec:ls pic?.png | count a:b", "exec", "ls pic?.png | count a:b", 0, 1);
    check_spec("exec:x?a=1 && y", "exec", "x?a=1 && y", 0, 1);
    check_spec("http://me:pw@host:80/a?b=c?timeout=3@2", "http", "//me:pw@host:80/a?b=c", 1, 2);
    check_spec("http://host/a?b=c?", "http", "//host/a?b=c?", 0, 1);
    check_spec("callback:mine?name=taste", "callback", "mine", 1, 1);
    RewardSpec s;
    Error err = {0};
    assert_int_equal(reward_spec_parse("scene@-1", &s, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, "weight"));
}

static void expect_open_error(const char *spec, const char *word) {
    Reward *r = NULL;
    Error err = {0};
    assert_int_equal(reward_open(spec, NULL, 0, &r, &err), DRPO_E_USAGE);
    assert_null(r);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
}

static void test_open_errors_list_what_exists(void **state) {
    (void)state;
    expect_open_error("pickscor", "scene, scene-correct, scene-smooth, exec:COMMAND, http:");
    expect_open_error("scene:x", "no argument");
    expect_open_error("scene?strict=1", "unknown option 'strict'");
    expect_open_error("exec:", "exec:COMMAND");
    expect_open_error("exec:true?images=jpeg", "png|rgb|paths");
    expect_open_error("exec:true?timeout=soon", "timeout=soon");
    expect_open_error("exec:true?timeout=0", "timeout=0");
    expect_open_error("exec:true?imags=rgb", "images, timeout");
    expect_open_error("exec:true?timeout=1&timeout=2", "twice");
    expect_open_error("exec:true?workers=0", "workers=0 must be a whole number of 1 to 64");
    expect_open_error("exec:true?workers=1.5", "whole number");
    expect_open_error("scene?retries=-1", "retries=-1");
    expect_open_error("scene?name=", "empty");
    expect_open_error("callback:mine", "not registered");
    expect_open_error("http:localhost", "not a URL");
    expect_open_error("https:///score", "not a URL");
    expect_open_error("https://host/score?model=a", "another '?'");
    expect_open_error("http://localhost/?images=paths", "png|rgb");
    expect_open_error("http://localhost/?token_env=DRPO_NO_SUCH_VARIABLE", "DRPO_NO_SUCH_VARIABLE");
    expect_open_error("plugin:", "PATH.so");
}

/* ---- sets, callbacks, ensembles ---- */

static int bright(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                  int width, float *scores) {
    (void)metadata;
    if (strcmp(prompt, "refuse") == 0) return 7;
    for (int k = 0; k < count; k++) scores[k] = *(float *)user * rgb[k * height * width * 3];
    return 0;
}

static void test_callback(void **state) {
    (void)state;
    float factor = 2, scores[COUNT];
    uint8_t rgb[COUNT * PICTURE];
    const Pictures pictures = some_pictures(rgb);
    const RewardCallback callback = {"mine", bright, &factor};
    Reward *r = NULL;
    Error err = {0};
    assert_int_equal(reward_open("callback:mine@3", &callback, 1, &r, &err), 0);
    assert_string_equal(r->name, "mine");
    assert_true(r->weight == 3);
    assert_int_equal(reward_score(r, &(Prompt){"a", NULL, NULL}, &pictures, scores, NULL, &err), 0);
    assert_true(scores[0] == 0 && scores[1] == 20 && scores[2] == 40);
    assert_int_equal(reward_score(r, &(Prompt){"refuse", NULL, NULL}, &pictures, scores, NULL, &err), DRPO_E_REWARD);
    assert_non_null(strstr(err.text, "returned 7"));
    factor = INFINITY;
    error_clear(&err);
    assert_int_equal(reward_score(r, &(Prompt){"a", NULL, NULL}, &pictures, scores, NULL, &err), DRPO_E_REWARD);
    assert_non_null(strstr(err.text, "finite"));
    reward_close(r);
}

static void test_ensemble(void **state) {
    (void)state;
    const float raw[] = {1, 2, 3, 300, 100, 200};
    double out[3];
    reward_ensemble(raw, (const float[]){2}, 1, 3, out);
    assert_true(out[0] == 1 && out[1] == 2 && out[2] == 3);
    reward_ensemble(raw, (const float[]){1, 3}, 2, 3, out);
    const double unit = sqrt(1.5); /* of an outer value: 1 / sqrt(2/3) */
    assert_true(fabs(out[0] - (-0.25 * unit + 0.75 * unit)) < 1e-9);
    assert_true(fabs(out[1] - -0.75 * unit) < 1e-9);
    assert_true(fabs(out[2] - 0.25 * unit) < 1e-9);
    const float equal[] = {5, 5, 5, 1, 2, 3};
    reward_ensemble(equal, (const float[]){1, 1}, 2, 3, out); /* an equal reward says nothing, and divides by nothing */
    assert_true(fabs(out[2] - 0.5 * unit) < 1e-9 && fabs(out[1]) < 1e-9);
}

static void test_sets(void **state) {
    (void)state;
    float one = 1, minus = -1, raw[2 * COUNT];
    double ensemble[COUNT];
    uint8_t rgb[COUNT * PICTURE];
    const Pictures pictures = some_pictures(rgb);
    const RewardCallback callbacks[] = {{"up", bright, &one}, {"down", bright, &minus}};
    RewardSet set;
    Error err = {0};
    assert_int_equal(
        reward_set_open((const char *const[]){"callback:up@3", "callback:down"}, 2, callbacks, 2, &set, &err), 0);
    assert_int_equal(reward_set_score(&set, &(Prompt){"a", NULL, NULL}, &pictures, raw, ensemble, &err), 0);
    assert_true(raw[2] == 20 && raw[5] == -20);
    assert_true(fabs(ensemble[2] - 0.5 * sqrt(1.5)) < 1e-6); /* 3/4 up, 1/4 down */
    reward_set_close(&set);
    assert_int_equal(
        reward_set_open((const char *const[]){"scene", "scene", "scene-correct", "scene"}, 4, NULL, 0, &set, &err), 0);
    assert_string_equal(set.reward[0]->name, "scene");
    assert_string_equal(set.reward[1]->name, "scene_2");
    assert_string_equal(set.reward[2]->name, "scene_correct");
    assert_string_equal(set.reward[3]->name, "scene_3");
    assert_int_equal(reward_set_score(&set, &(Prompt){"a", NULL, NULL}, &pictures, raw, ensemble, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "metadata"));
    reward_set_close(&set);
    error_clear(&err);
    assert_int_equal(reward_set_open((const char *const[]){"scene@0"}, 1, NULL, 0, &set, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, "add up to 0"));
    assert_int_equal(set.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specifications), cmocka_unit_test(test_open_errors_list_what_exists),
        cmocka_unit_test(test_callback),       cmocka_unit_test(test_ensemble),
        cmocka_unit_test(test_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
