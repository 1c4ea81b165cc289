/* The scene verifier against the verdicts of its Python original, and on pictures drawn by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "step/reward/scene.h"
#include "step/reward/scene_internal.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

enum { PICTURE = SCENE_SIZE * SCENE_SIZE * 3 };

static SceneVerdict verify(const char *metadata, const uint8_t *rgb) {
    SceneTask *task = NULL;
    SceneVerdict v = {0};
    Error err = {0};
    if (scene_task_parse(metadata, &task, &err) < 0 || scene_verify(task, rgb, SCENE_SIZE, SCENE_SIZE, &v, &err) < 0)
        fail_msg("%s", err.text);
    scene_task_free(task);
    return v;
}

static const SafeTensor *tensor(const SafeFile *f, const char *name) {
    const SafeTensor *t = safetensors_find(f, name);
    if (!t) fail_msg("no tensor %s", name);
    return t;
}

static void test_agrees_with_the_original(void **state) {
    (void)state;
    SafeFile *f = NULL;
    Error err = {0};
    if (safetensors_open(SOURCE_DIR "/tests/golden/scene/scene.safetensors", &f, &err) < 0) fail_msg("%s", err.text);
    const SafeTensor *rgb = tensor(f, "rgb"), *correct = tensor(f, "correct"), *soft = tensor(f, "soft");
    int right = 0;
    assert_true(rgb->dim[0] >= 60);
    for (int i = 0; i < rgb->dim[0]; i++) {
        char key[32];
        snprintf(key, sizeof key, "task%d", i);
        float want;
        memcpy(&want, (const char *)soft->data + (size_t)i * sizeof want, sizeof want);
        const bool verdict = ((const uint8_t *)correct->data)[i] != 0;
        const SceneVerdict v = verify(safetensors_metadata(f, key), (const uint8_t *)rgb->data + (size_t)i * PICTURE);
        if (v.correct != verdict || fabsf(v.soft - want) > 1e-4f)
            fail_msg("picture %d: verdict %d, soft %g; the original says %d, %g", i, v.correct, (double)v.soft, verdict,
                     (double)want);
        assert_true(fabsf(v.reward - (0.5f * verdict + 0.5f * v.soft)) < 1e-6f);
        right += verdict;
    }
    assert_true(right > 20 && right < rgb->dim[0] - 20);
    safetensors_close(f);
}

/* ---- squares drawn by hand ---- */

static void clear(uint8_t *rgb) { memset(rgb, 237, PICTURE); }

static void square(uint8_t *rgb, int x0, int y0, int side, int r, int g, int b) {
    for (int y = y0; y < y0 + side; y++)
        for (int x = x0; x < x0 + side; x++) {
            uint8_t *p = rgb + (y * SCENE_SIZE + x) * 3;
            p[0] = (uint8_t)r;
            p[1] = (uint8_t)g;
            p[2] = (uint8_t)b;
        }
}

#define ONE_SQUARE "{\"tag\":\"single_object\",\"include\":[{\"class\":\"square\",\"count\":1}],\"exclude\":[]}"
#define TWO_SQUARES                                                                                                    \
    "{\"include\":[{\"class\":\"square\",\"count\":2}],\"exclude\":[{\"class\":\"square\",\"count\":3}]}"
#define RED_LEFT_OF_BLUE                                                                                               \
    "{\"include\":[{\"class\":\"square\",\"count\":1,\"color\":\"blue\"},{\"class\":\"square\",\"count\":1,\"color\":" \
    "\"red\",\"position\":[\"left of\",0]}]}"

static void test_counts_colours_and_relations(void **state) {
    (void)state;
    uint8_t rgb[PICTURE];
    clear(rgb);
    assert_false(verify(ONE_SQUARE, rgb).correct);
    assert_true(verify(ONE_SQUARE, rgb).soft == 0);
    square(rgb, 8, 20, 18, 220, 41, 41);
    assert_true(verify(ONE_SQUARE, rgb).correct);
    assert_true(verify(ONE_SQUARE, rgb).reward > 0.9f);
    assert_false(verify(TWO_SQUARES, rgb).correct);
    square(rgb, 38, 20, 18, 38, 97, 224);
    assert_false(verify(ONE_SQUARE, rgb).correct); /* one left over */
    assert_true(verify(TWO_SQUARES, rgb).correct);
    assert_true(verify(RED_LEFT_OF_BLUE, rgb).correct);
    clear(rgb);
    square(rgb, 38, 20, 18, 220, 41, 41);
    square(rgb, 8, 20, 18, 38, 97, 224);
    assert_false(verify(RED_LEFT_OF_BLUE, rgb).correct);
    assert_true(verify(TWO_SQUARES, rgb).correct);
}

static void test_specks_are_ignored(void **state) {
    (void)state;
    uint8_t rgb[PICTURE];
    clear(rgb);
    square(rgb, 20, 20, 20, 220, 41, 41);
    square(rgb, 2, 2, 4, 0, 0, 0); /* 16 pixels, fewer than an object has */
    assert_true(verify(ONE_SQUARE, rgb).correct);
    square(rgb, 2, 2, 5, 0, 0, 0); /* 25 */
    assert_false(verify(ONE_SQUARE, rgb).correct);
}

/* Any picture is judged without a fault, the fullest included. */
static void test_a_full_picture(void **state) {
    (void)state;
    uint8_t rgb[PICTURE];
    clear(rgb);
    for (int y = 0; y < SCENE_SIZE; y += 6)
        for (int x = 0; x < SCENE_SIZE; x += 6)
            if (x + 5 <= SCENE_SIZE && y + 5 <= SCENE_SIZE) square(rgb, x, y, 5, 0, 0, 0);
    assert_false(verify(TWO_SQUARES, rgb).correct);
    uint32_t seed = 1;
    for (int i = 0; i < PICTURE; i++) rgb[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    const SceneVerdict v = verify(RED_LEFT_OF_BLUE, rgb);
    assert_true(v.soft >= 0 && v.soft <= 1);
}

static void expect_error(const char *metadata, const char *word) {
    SceneTask *task = NULL;
    Error err = {0};
    assert_true(scene_task_parse(metadata, &task, &err) < 0);
    assert_null(task);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
}

static void test_errors(void **state) {
    (void)state;
    expect_error(NULL, "no metadata");
    expect_error("{", "metadata");
    expect_error("{\"tag\":\"x\"}", "include");
    expect_error("{\"include\":[{\"count\":1}]}", "class");
    expect_error("{\"include\":[{\"class\":\"cat\",\"count\":1}]}", "circle, square");
    expect_error("{\"include\":[{\"class\":\"star\",\"color\":\"mauve\"}]}", "red, orange");
    expect_error("{\"include\":[{\"class\":\"star\",\"count\":0}]}", "count");
    expect_error("{\"include\":[{\"class\":\"star\",\"position\":[\"above\",0]}]}", "before");
    expect_error("{\"include\":[{\"class\":\"star\"},{\"class\":\"ring\",\"position\":[\"near\",0]}]}", "left of");
    expect_error("{\"include\":[{\"class\":\"star\"},{\"class\":\"ring\",\"position\":3}]}", "position");
    SceneTask *task = NULL;
    Error err = {0};
    SceneVerdict v;
    assert_int_equal(scene_task_parse(ONE_SQUARE, &task, &err), 0);
    assert_int_equal(scene_verify(task, NULL, 32, 64, &v, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "64 x 32"));
    scene_task_free(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_original),
        cmocka_unit_test(test_counts_colours_and_relations),
        cmocka_unit_test(test_specks_are_ignored),
        cmocka_unit_test(test_a_full_picture),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
