/* The scene world as it is drawn: pictures against those of the Python original, to the last bit; what the verifier
 * says of them; its captions. */
#include <stdlib.h>

#include "base/rng.h"
#include "check.h"
#include "format/image.h"
#include "format/prompts.h"
#include "format/safetensors.h"
#include "step/reward/scene_world.h"

#define GOLDEN SOURCE_DIR "/tests/golden/scene_world"
enum { COUNT = 48, COLUMNS = 8, NOISE = SCENE_CHANNELS * SCENE_NOISE * SCENE_NOISE, SIDE = SCENE_SIDE };

static void draw(const char *metadata, const float *noise, bool unreliable, float *image) {
    Error err = {0};
    SceneTask *task;
    Scene scene;
    assert_ok(scene_task_parse(metadata, &task, &err), err);
    assert_ok(scene_from_noise(task, noise, unreliable, &scene, &err), err);
    scene_draw(&scene, image);
    scene_task_free(task);
}

static uint8_t rounded(float x) { return (uint8_t)(x * 255 + 0.5f); }

static void pictures_are_those_of_the_original(void **state) {
    (void)state;
    Error err = {0};
    Arena *arena = arena_new();
    SafeFile *file;
    PromptList captions;
    Image expected;
    assert_ok(safetensors_open(GOLDEN "/noise.safetensors", &file, &err), err);
    assert_ok(prompts_read(GOLDEN "/captions.jsonl", arena, &captions, &err), err);
    assert_ok(image_read(GOLDEN "/pictures.png", &expected, &err), err);
    assert_int_equal(captions.count, COUNT);
    const SafeTensor *all = safetensors_find(file, "noise"), *whole = safetensors_find(file, "whole");
    for (int i = 0; i < COUNT; i++) {
        float noise[NOISE], image[SIDE * SIDE * 3];
        dtype_to_f32(all->dtype, all->data, (size_t)i * NOISE, NOISE, noise);
        draw(captions.items[i].metadata, noise, i % 2 == 1, image);
        if (i < 2) assert_memory_equal(image, (const float *)whole->data + i * SIDE * SIDE * 3, sizeof image);
        for (int at = 0; at < SIDE * SIDE * 3; at++) {
            const int x = i % COLUMNS * SIDE + at / 3 % SIDE, y = i / COLUMNS * SIDE + at / 3 / SIDE;
            const uint8_t want = expected.rgb[(y * expected.width + x) * 3 + at % 3];
            if (rounded(image[at]) != want)
                fail_msg("picture %d, '%s': pixel %d,%d is %d, not %d", i, captions.items[i].text, at / 3 % SIDE,
                         at / 3 / SIDE, rounded(image[at]), want);
        }
    }
    image_free(&expected);
    safetensors_close(file);
    arena_free(arena);
}

/* Every reliable caption is judged right but for rare accidents of places; unreliable ones are wrong as often as meant.
 */
static void the_verifier_agrees(void **state) {
    (void)state;
    Error err = {0};
    Arena *arena = arena_new();
    PromptList captions;
    char *text;
    size_t size;
    char folder[512];
    assert_ok(scene_captions(&text, &size, &err), err);
    const char *path = in_dir(fresh_dir("scene_world", folder), "captions.jsonl");
    put_file(path, text, size);
    free(text);
    assert_ok(prompts_read(path, arena, &captions, &err), err);
    assert_int_equal(captions.count, 8 + 24 + 64 + 56 + 224 + 3136);
    int right[2] = {0}, tried = 0;
    for (size_t i = 0; i < captions.count; i += 7, tried++)
        for (int unreliable = 0; unreliable < 2; unreliable++) {
            float noise[NOISE], image[SIDE * SIDE * 3];
            uint8_t rgb[SIDE * SIDE * 3];
            SceneTask *task;
            SceneVerdict verdict;
            rng_normal((RngKey){.seed = 1, .stream = RNG_TEST, .prompt = (uint32_t)i}, noise, NOISE);
            draw(captions.items[i].metadata, noise, unreliable, image);
            for (int k = 0; k < SIDE * SIDE * 3; k++) rgb[k] = rounded(image[k]);
            assert_ok(scene_task_parse(captions.items[i].metadata, &task, &err), err);
            assert_ok(scene_verify(task, rgb, SIDE, SIDE, &verdict, &err), err);
            right[unreliable] += verdict.correct;
            scene_task_free(task);
        }
    assert_true(right[0] > 0.985 * tried);
    assert_true(right[1] < 0.72 * tried && right[1] > 0.56 * tried); /* most captions are of two colours: 0.64 */
    arena_free(arena);
}

static void what_cannot_be_drawn_is_refused(void **state) {
    (void)state;
    Error err = {0};
    SceneTask *task;
    Scene scene;
    static const float noise[NOISE];
    assert_ok(scene_task_parse("{\"include\": [{\"class\": \"star\", \"count\": 5}]}", &task, &err), err);
    assert_fails(scene_from_noise(task, noise, false, &scene, &err), DRPO_E_INPUT, "cannot be drawn", err);
    scene_task_free(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_those_of_the_original),
        cmocka_unit_test(the_verifier_agrees),
        cmocka_unit_test(what_cannot_be_drawn_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
