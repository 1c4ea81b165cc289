/* The public API as a program uses it: options, errors, callbacks, pictures, a training run with a reward of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "drpo.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

#define MODEL SOURCE_DIR "/assets/tiny-turbo"

static void test_config(void **state) {
    (void)state;
    assert_null(drpo_config_new((drpo_verb)99));
    drpo_config *c = drpo_config_new(DRPO_TRAIN);
    assert_non_null(c);
    assert_string_equal(drpo_config_get(c, "steps"), "100");
    assert_int_equal(drpo_config_set(c, "max_train_steps", "3"), 0);
    assert_string_equal(drpo_config_get(c, "steps"), "3");
    assert_null(drpo_config_get(c, "nothing"));
    assert_int_equal(drpo_config_set(c, "steps", "x"), DRPO_E_USAGE);
    assert_non_null(strstr(drpo_config_error(c), "--steps"));
    assert_string_equal(drpo_config_get(c, "steps"), "3"); /* a refused value changes nothing */
    assert_int_equal(drpo_config_set(c, NULL, "x"), DRPO_E_USAGE);
    const char *args[] = {"--lr", "0.5", "--reward=scene@2"};
    assert_int_equal(drpo_config_parse(c, 3, args), 0);
    assert_string_equal(drpo_config_error(c), "");
    assert_string_equal(drpo_config_get(c, "learning-rate"), "0.5");
    assert_int_equal(drpo_config_reward(c, "", NULL, NULL), DRPO_E_USAGE);
    drpo_config_free(c);
    drpo_config_free(NULL);
}

static void test_texts(void **state) {
    (void)state;
    assert_string_equal(drpo_version(), DRPO_VERSION);
#define CHECK_TEXT(name, value, text) assert_string_equal(drpo_error_text(name), text);
    DRPO_ERROR_MAP(CHECK_TEXT)
    char *help = drpo_config_help(DRPO_SAMPLE, NULL);
    assert_non_null(strstr(help, "Usage: drpo sample"));
    free(help);
}

typedef struct Seen {
    int updates, stop_after, scored, fail_score;
    double last_reward;
    char result[512];
} Seen;

static void on_progress(void *user, const drpo_progress *p) {
    Seen *s = user;
    s->updates++;
    s->last_reward = p->reward;
    assert_int_equal(p->step, s->updates);
    assert_non_null(strstr(p->line, "step "));
}

static void on_message(void *user, int level, const char *text) {
    Seen *s = user;
    if (level == 2) snprintf(s->result, sizeof s->result, "%s", text);
}

static int on_cancelled(void *user) {
    const Seen *s = user;
    return s->stop_after >= 0 && s->updates >= s->stop_after;
}

/* Picture i scores i + 1. */
static int rank(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                int width, float *scores) {
    Seen *s = user;
    assert_true(prompt[0] && strstr(metadata, "\"include\"") && rgb && height == 64 && width == 64);
    for (int i = 0; i < count; i++) scores[i] = (float)(i + 1);
    s->scored += count;
    return s->fail_score;
}

static drpo_config *small_run(const char *out) {
    drpo_config *c = drpo_config_new(DRPO_TRAIN);
    const char *args[] = {"--model",
                          MODEL,
                          "--prompts",
                          SOURCE_DIR "/assets/prompts/train.jsonl",
                          "--reward",
                          "callback:rank",
                          "--out",
                          out,
                          "--candidates",
                          "4",
                          "--positives",
                          "1",
                          "--negatives",
                          "1",
                          "--prompts-per-step",
                          "1",
                          "--steps",
                          "2",
                          "--threads",
                          "1",
                          "--eval-every",
                          "0",
                          "--features",
                          "latent?keys=latent_mean_8",
                          "--overwrite"};
    assert_int_equal(drpo_config_parse(c, sizeof args / sizeof *args, args), 0);
    return c;
}

static void test_train(void **state) {
    (void)state;
    Seen seen = {.stop_after = -1};
    drpo_callbacks callbacks = {on_progress, on_message, on_cancelled, &seen};
    drpo_config *c = small_run(TEST_TMP "/api-run");
    assert_int_equal(drpo_run(c, &callbacks), DRPO_E_USAGE); /* no function of that name yet */
    assert_non_null(strstr(drpo_config_error(c), "rank"));
    assert_int_equal(drpo_config_reward(c, "rank", rank, &seen), 0);
    assert_int_equal(drpo_run(c, &callbacks), 0);
    assert_int_equal(seen.updates, 2);
    assert_int_equal(seen.scored, 8);
    assert_float_equal(seen.last_reward, 2.5, 1e-6);
    assert_string_equal(seen.result, TEST_TMP "/api-run/final");
    assert_true(file_exists(TEST_TMP "/api-run/final/adapter_model.safetensors"));
    drpo_config_free(c);
}

static void test_stop(void **state) {
    (void)state;
    Seen seen = {.stop_after = 1};
    drpo_callbacks callbacks = {on_progress, on_message, on_cancelled, &seen};
    drpo_config *c = small_run(TEST_TMP "/api-stop");
    drpo_config_reward(c, "rank", rank, &seen);
    assert_int_equal(drpo_run(c, &callbacks), DRPO_E_CANCELLED);
    assert_true(dir_exists(TEST_TMP "/api-stop/checkpoint-1"));
    assert_false(dir_exists(TEST_TMP "/api-stop/final"));
    drpo_config_free(c);
}

static void test_failing_reward(void **state) {
    (void)state;
    Seen seen = {.stop_after = -1, .fail_score = 1};
    drpo_callbacks callbacks = {on_progress, on_message, on_cancelled, &seen};
    drpo_config *c = small_run(TEST_TMP "/api-fail");
    drpo_config_reward(c, "rank", rank, &seen);
    assert_int_equal(drpo_run(c, &callbacks), DRPO_E_REWARD);
    assert_non_null(strstr(drpo_config_error(c), "rank"));
    assert_false(dir_exists(TEST_TMP "/api-fail")); /* nothing was learnt: nothing is left */
    drpo_config_free(c);
}

static void test_model(void **state) {
    (void)state;
    enum { BYTES = 64 * 64 * 3 };
    static uint8_t two[2 * BYTES], second[BYTES];
    char error[256] = "";
    drpo_model *m = NULL;
    int height = 0, width = 0;
    assert_int_equal(drpo_model_open("/nowhere", NULL, 1, &m, error, sizeof error), DRPO_E_INPUT);
    assert_non_null(strstr(error, "/nowhere"));
    assert_null(m);
    assert_int_equal(drpo_model_open(MODEL, NULL, 1, &m, error, sizeof error), 0);
    assert_int_equal(drpo_model_size(m, &height, &width), 0);
    assert_true(height == 64 && width == 64);
    assert_int_equal(drpo_model_sample(m, "a photo of a star", 7, 2, two, error, sizeof error), 0);
    assert_int_equal(drpo_model_sample(m, "a photo of a star", 8, 1, second, error, sizeof error), 0);
    assert_memory_equal(two + BYTES, second, BYTES); /* picture i uses seed + i */
    assert_memory_not_equal(two, second, BYTES);
    assert_int_equal(drpo_model_sample(m, NULL, 8, 1, second, error, sizeof error), DRPO_E_USAGE);
    assert_int_equal(drpo_model_sample(m, "\xff", 8, 1, second, error, sizeof error), DRPO_E_INPUT);
    drpo_model_free(m);
    drpo_model_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config), cmocka_unit_test(test_texts),          cmocka_unit_test(test_train),
        cmocka_unit_test(test_stop),   cmocka_unit_test(test_failing_reward), cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
