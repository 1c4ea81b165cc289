/* GenEval as a reward: a detector behind a pipe (fake_detector.py), its objects judged here; and what it may get wrong.
 */
#include <stdlib.h>

#include "../check.h"
#include "step/reward/geneval_crop.h"
#include "step/reward/geneval_reply.h"
#include "step/reward/geneval_reward.h"

enum { WIDTH = 40, HEIGHT = 30, BYTES = WIDTH * HEIGHT * 3 };

#define DETECTOR "python3 " SOURCE_DIR "/tests/step/fake_detector.py "
#define CAT_LEFT_OF_RED_DOG                                                                                            \
    "{\"tag\":\"color_attr\",\"include\":[{\"class\":\"dog\",\"count\":1,\"color\":\"red\"},"                          \
    "{\"class\":\"cat\",\"count\":1,\"position\":[\"left of\",0]}]}"

static const Prompt prompt = {"a photo of a cat left of a red dog", "color_attr", CAT_LEFT_OF_RED_DOG};

/* As fake_detector.py sees it. */
static void paint(uint8_t *rgb, const char *class, int score, const char *color, int x, int y, int width, int height) {
    for (int i = y; i < y + height; i++)
        for (int j = x; j < x + width; j++) {
            uint8_t *pixel = rgb + 3 * (i * WIDTH + j);
            pixel[0] = (uint8_t)(geneval_class(class) + 1);
            pixel[1] = (uint8_t)score;
            pixel[2] = (uint8_t)geneval_color(color);
        }
}

static Reward *open_spec(const char *spec) {
    Reward *r = NULL;
    Error err = {0};
    assert_ok(reward_open(spec, NULL, 0, &r, &err), err);
    return r;
}

/* Right; the dog is green; no cat is sure enough; nothing at all. */
static void paint_four(uint8_t *rgb) {
    memset(rgb, 0, 4 * BYTES);
    for (int k = 0; k < 3; k++) {
        paint(rgb + k * BYTES, "dog", 240, k == 1 ? "green" : "red", 28, 10, 8, 8);
        paint(rgb + k * BYTES, "cat", k == 2 ? 75 : 200, "black", 2, 10, 8, 8); /* 75 / 250 is just the threshold */
    }
}

static void test_objects_become_verdicts(void **state) {
    (void)state;
    static uint8_t rgb[4 * BYTES];
    Reward *r = open_spec("geneval:" DETECTOR "objects?images=rgb");
    const Pictures pictures = {rgb, 4, HEIGHT, WIDTH};
    GenevalResult result[4];
    float scores[4];
    Error err = {0};
    paint_four(rgb);
    assert_true(geneval_reward_is(r));
    assert_ok(geneval_reward_judge(r, &prompt, &pictures, result, &err), err);
    assert_true(result[0].verdict.correct);
    assert_string_equal(result[0].details, "{\"cat\": [[2.0, 10.0, 10.0, 18.0, 0.80000000000000004]], "
                                           "\"dog\": [[28.0, 10.0, 36.0, 18.0, 0.95999999999999996]]}");
    assert_string_equal(result[1].verdict.reason,
                        "expected red dog>=1, found 0 red; and 1 green\nno target for cat to be left of");
    assert_string_equal(result[2].verdict.reason, "expected cat>=1, found 0");
    assert_string_equal(result[3].details, "{}");
    for (int k = 0; k < 4; k++) free(result[k].details);
    assert_ok(reward_score(r, &prompt, &pictures, scores, NULL, &err), err);
    for (int k = 0; k < 4; k++) assert_true(scores[k] == (k == 0 ? 1.0f : 0.0f));
    reward_close(r);
    r = open_spec("geneval:" DETECTOR "objects?images=rgb&threshold=0.2&position_threshold=0.9");
    assert_ok(geneval_reward_judge(r, &prompt, &pictures, result, &err), err);
    assert_string_equal(result[2].verdict.reason, "expected cat left of target, found  target"); /* 11.6 / 26 */
    for (int k = 0; k < 4; k++) free(result[k].details);
    reward_close(r);
}

/* The worker of the released trainer judges by itself. */
static void test_a_worker_that_judges_by_itself(void **state) {
    (void)state;
    static uint8_t rgb[3 * BYTES];
    Reward *r =
        open_spec("geneval:" DETECTOR "released --device cuda --geneval_options threshold=0.3?ready_timeout=30");
    const Pictures pictures = {rgb, 3, HEIGHT, WIDTH};
    GenevalResult result[3];
    float scores[3];
    Error err = {0};
    assert_ok(reward_score(r, &prompt, &pictures, scores, NULL, &err), err);
    for (int k = 0; k < 3; k++) assert_true(scores[k] == (float)(k % 2));
    assert_ok(geneval_reward_judge(r, &prompt, &pictures, result, &err), err);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(result[k].verdict.correct, k % 2);
        assert_null(result[k].details);
    }
    reward_close(r);
}

static void expect_fault(const char *mode, const char *words) {
    static uint8_t rgb[4 * BYTES];
    char spec[512];
    const Pictures pictures = {rgb, 4, HEIGHT, WIDTH};
    float scores[4];
    Error err = {0};
    snprintf(spec, sizeof spec, "geneval:" DETECTOR "%s?images=rgb&retries=0", mode);
    paint_four(rgb);
    Reward *r = open_spec(spec);
    assert_fails(reward_score(r, &prompt, &pictures, scores, NULL, &err), DRPO_E_REWARD, words, err);
    reward_close(r);
}

static void test_what_a_detector_may_get_wrong(void **state) {
    (void)state;
    expect_fault("class", "object 1 of picture 1 has a \"class\"");
    expect_fault("score", "no finite \"score\"");
    expect_fault("box", "no \"box\"");
    expect_fault("color", "a \"color\"");
    expect_fault("mask", "do not add up");
    expect_fault("count", "detections of 3 pictures, not 4");
    expect_fault("plain", "names no color of a dog: have it answer with \"color\", or give CLIP by ?clip=PATH");
}

static void test_prompts_that_are_not_geneval_s(void **state) {
    (void)state;
    static uint8_t rgb[BYTES];
    Reward *r = open_spec("geneval:" DETECTOR "objects?images=rgb&retries=0");
    const Prompt other = {"a star", NULL, "{\"tag\":\"x\",\"include\":[{\"class\":\"star\",\"count\":1}]}"};
    const Pictures pictures = {rgb, 1, HEIGHT, WIDTH};
    float score;
    Error err = {0};
    assert_true(r->needs_metadata);
    assert_fails(reward_score(r, &other, &pictures, &score, NULL, &err), DRPO_E_INPUT, "unknown class star", err);
    reward_close(r);
}

/* ---- crops ---- */

static void test_crops_hide_what_lies_outside_the_mask(void **state) {
    (void)state;
    static uint8_t rgb[BYTES];
    for (int k = 0; k < WIDTH * HEIGHT; k++) memset(rgb + 3 * k, k % 100, 3);
    /* columns 3 and 4, rows 5 to 9 of them */
    const uint32_t runs[] = {3 * HEIGHT + 5, 5, HEIGHT - 5, 5, WIDTH * HEIGHT - 4 * HEIGHT - 10};
    GenevalObject o = {.box = {2.5, 5, 6.4, 12.5}, .runs = runs, .n_runs = 5}; /* rounds to 2, 5, 6, 12 */
    Image crop;
    Error err = {0};
    assert_ok(geneval_crop(rgb, HEIGHT, WIDTH, &o, &crop, &err), err);
    assert_int_equal(crop.width, 4);
    assert_int_equal(crop.height, 7);
    for (int y = 0; y < 7; y++)
        for (int x = 0; x < 4; x++) {
            const bool inside = (x == 1 || x == 2) && y < 5;
            assert_int_equal(crop.rgb[3 * (4 * y + x)], inside ? ((y + 5) * WIDTH + x + 2) % 100 : GENEVAL_GROUND);
        }
    image_free(&crop);
    o = (GenevalObject){.box = {-1, HEIGHT - 1, 1, HEIGHT + 1}};
    assert_ok(geneval_crop(rgb, HEIGHT, WIDTH, &o, &crop, &err), err);
    const int corner = (HEIGHT - 1) * WIDTH % 100;
    const uint8_t expected[12] = {0, 0, 0, (uint8_t)corner, (uint8_t)corner, (uint8_t)corner};
    assert_memory_equal(crop.rgb, expected, 12);
    image_free(&crop);
    o.box[2] = -1;
    assert_fails(geneval_crop(rgb, HEIGHT, WIDTH, &o, &crop, &err), DRPO_E_REWARD, "empty", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_become_verdicts),
        cmocka_unit_test(test_a_worker_that_judges_by_itself),
        cmocka_unit_test(test_what_a_detector_may_get_wrong),
        cmocka_unit_test(test_prompts_that_are_not_geneval_s),
        cmocka_unit_test(test_crops_hide_what_lies_outside_the_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
