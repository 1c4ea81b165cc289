/* Native preference models as rewards: their numbers are those of the golden files, several pictures at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "step/reward/reward.h"

#define HPSV3 SOURCE_DIR "/tests/golden/hpsv3"
#define IMAGEREWARD SOURCE_DIR "/tests/golden/imagereward"

/* How many go through a network together changes no more than rounding. */
static bool near(float a, float b) { return fabsf(a - b) <= 1e-6f * (1 + fabsf(b)); }

enum { MANY = 11 };

/* More pictures than ImageReward's network takes at once: those of the pair in turn. */
static void score_many(Reward *r, const Prompt *prompt, const uint8_t *pair, int height, int width,
                       const float want[2]) {
    Error err = {0};
    float scores[MANY];
    const size_t size = (size_t)height * (size_t)width * 3;
    uint8_t *rgb = malloc(MANY * size);
    for (int i = 0; i < MANY; i++) memcpy(rgb + (size_t)i * size, pair + (size_t)(i % 2) * size, size);
    assert_ok(reward_score(r, prompt, &(Pictures){rgb, MANY, height, width}, scores, NULL, &err), err);
    for (int i = 0; i < MANY; i++)
        if (!near(scores[i], want[i % 2]))
            fail_msg("picture %d: %.8g, not %.8g", i, (double)scores[i], (double)want[i % 2]);
    free(rgb);
}

/* Pictures 0 and 3 of a golden case have one size: scored together for prompt 0, the first number is golden and the
 * second that of the picture alone. */
static void check_pair(const char *spec, const char *folder) {
    Error err = {0};
    Reward *r = NULL;
    SafeFile *io;
    json_t *prompts;
    assert_ok(safetensors_open(in_dir(folder, "io.safetensors"), &io, &err), err);
    assert_ok(json_load_path(in_dir(folder, "prompts.json"), &prompts, &err), err);
    const SafeTensor *a = safetensors_find(io, "input.picture.0"), *b = safetensors_find(io, "input.picture.3");
    const SafeTensor *want = safetensors_find(io, "output.score.0");
    assert_true(a && b && want && a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1]);
    const int height = (int)a->dim[0], width = (int)a->dim[1], size = height * width * 3;
    uint8_t *rgb = malloc(2 * (size_t)size);
    for (int i = 0; i < 2 * size; i++) rgb[i] = (uint8_t)((const int32_t *)(i < size ? a : b)->data)[i % size];
    const Prompt prompt = {.text = (char *)(uintptr_t)json_string_value(json_array_get(prompts, 0))};
    float both[2], alone;
    assert_ok(reward_open(spec, NULL, 0, &r, &err), err);
    assert_ok(reward_score(r, &prompt, &(Pictures){rgb, 2, height, width}, both, NULL, &err), err);
    assert_ok(reward_score(r, &prompt, &(Pictures){rgb + size, 1, height, width}, &alone, NULL, &err), err);
    const float golden = *(const float *)want->data;
    if (!(fabsf(both[0] - golden) <= 1e-4f * (1 + fabsf(golden))))
        fail_msg("%s: %.7g instead of %.7g", spec, (double)both[0], (double)golden);
    assert_true(near(both[1], alone));
    assert_true(fabsf(both[1] - both[0]) > 1e-4f);
    if (!strncmp(spec, "imagereward", strlen("imagereward"))) score_many(r, &prompt, rgb, height, width, both);
    reward_close(r);
    free(rgb);
    json_decref(prompts);
    safetensors_close(io);
}

static void hpsv3_is_a_reward(void **state) {
    (void)state;
    check_pair("hpsv3:" HPSV3, HPSV3);
    check_pair("hpsv3:" HPSV3 "?questions=" HPSV3 "/user_text_template.txt&name=taste@2", HPSV3);
    Error err = {0};
    Reward *r = NULL;
    assert_fails(reward_open("hpsv3:/nowhere", NULL, 0, &r, &err), DRPO_E_INPUT, "where to get it): /nowhere", err);
    assert_fails(reward_open("hpsv3", NULL, 0, &r, &err), DRPO_E_USAGE, "hpsv3:FOLDER", err);
    assert_fails(reward_open("hpsv3:" HPSV3 "?questions=/nowhere", NULL, 0, &r, &err), DRPO_E_INPUT, "/nowhere", err);
}

static void imagereward_is_a_reward(void **state) {
    (void)state;
    check_pair("imagereward:" IMAGEREWARD, IMAGEREWARD);
    Error err = {0};
    Reward *r = NULL;
    assert_fails(reward_open("imagereward:/nowhere", NULL, 0, &r, &err), DRPO_E_INPUT, "where to get it): /nowhere",
                 err);
    assert_fails(reward_open("imagereward:" IMAGEREWARD "?scale=2", NULL, 0, &r, &err), DRPO_E_USAGE, "scale", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(hpsv3_is_a_reward), cmocka_unit_test(imagereward_is_a_reward)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
