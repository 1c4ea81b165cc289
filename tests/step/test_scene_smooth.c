/* The verifier with a gradient: its value against the verifier's, its slopes against finite differences of single
 * pixels where nothing that is held changes. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "check.h"
#include "format/safetensors.h"
#include "step/reward/reward.h"
#include "step/reward/scene_internal.h"

enum { PIXELS = SCENE_SIZE * SCENE_SIZE, PICTURE = PIXELS * 3 };

typedef struct World {
    SafeFile *file;
    int count;
    const uint8_t *rgb; /* [count,64,64,3] */
    Error err;
} World;

static void world_open(World *w) {
    *w = (World){0};
    assert_ok(safetensors_open(SOURCE_DIR "/tests/golden/scene/scene.safetensors", &w->file, &w->err), w->err);
    const SafeTensor *t = safetensors_find(w->file, "rgb");
    w->count = (int)t->dim[0];
    w->rgb = t->data;
}

static SceneTask *task_of(World *w, int i) {
    char key[32];
    SceneTask *task;
    snprintf(key, sizeof key, "task%d", i);
    assert_ok(scene_task_parse(safetensors_metadata(w->file, key), &task, &w->err), w->err);
    return task;
}

static void image_of(const World *w, int i, float *image) {
    for (int k = 0; k < PICTURE; k++) image[k] = w->rgb[(size_t)i * PICTURE + (size_t)k] / 255.0f;
}

static double correlation(const double *x, const double *y, int n) {
    double mx = 0, my = 0, xy = 0, xx = 0, yy = 0;
    for (int i = 0; i < n; i++) mx += x[i] / n, my += y[i] / n;
    for (int i = 0; i < n; i++) {
        xy += (x[i] - mx) * (y[i] - my);
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
    }
    return xy / sqrt(xx * yy);
}

static void test_value(void **state) {
    (void)state;
    World w;
    float image[PICTURE];
    double smooth[512], reward[512];
    int exact = 0;
    world_open(&w);
    assert_true(w.count <= 512);
    for (int i = 0; i < w.count; i++) {
        SceneTask *task = task_of(&w, i);
        SceneVerdict v;
        image_of(&w, i, image);
        smooth[i] = scene_smooth(task, image, NULL);
        assert_ok(scene_verify(task, w.rgb + (size_t)i * PICTURE, SCENE_SIZE, SCENE_SIZE, &v, &w.err), w.err);
        reward[i] = v.reward;
        exact += fabs(smooth[i] - v.soft) < 1e-6;
        scene_task_free(task);
    }
    const double r = correlation(smooth, reward, w.count);
    print_message("correlation with the verifier over %d pictures: %.3f; %d equal its partial credit\n", w.count, r,
                  exact);
    assert_true(r > 0.8);
    assert_true(exact > w.count / 2);
    safetensors_close(w.file);
}

/* Everything that the gradient holds is the same in both pictures. */
static bool same_decisions(const float *a, const float *b) {
    static SceneTrace trace[2];
    SceneObject objects[2][SCENE_MAX_OBJECTS];
    const int n = scene_detect_image(a, objects[0], &trace[0]), m = scene_detect_image(b, objects[1], &trace[1]);
    bool same = n == m;
    for (int i = 0; same && i < n; i++)
        same = trace[0].count[i] == trace[1].count[i] && trace[0].strength[i] == trace[1].strength[i] &&
               objects[0][i].x0 == objects[1][i].x0 && objects[0][i].x1 == objects[1][i].x1 &&
               objects[0][i].y0 == objects[1][i].y0 && objects[0][i].y1 == objects[1][i].y1;
    return same;
}

static void test_gradient(void **state) {
    (void)state;
    World w;
    float image[PICTURE], moved[2][PICTURE];
    double gradient[PICTURE], gap = 0, size = 0;
    int compared = 0;
    const RngKey draw = {7, RNG_TEST, 0, 0, 0};
    const float step = 2e-3f;
    world_open(&w);
    for (int i = 0; i < w.count; i++) {
        SceneTask *task = task_of(&w, i);
        image_of(&w, i, image);
        assert_true(isfinite(scene_smooth(task, image, gradient)));
        for (int try = 0; try < 300; try++) {
            const size_t at = rng_below(draw, (uint64_t)(i * 300 + try), PICTURE);
            const size_t x = at / 3 % SCENE_SIZE, y = at / 3 / SCENE_SIZE;
            if (x == 0 || y == 0 || x == SCENE_SIZE - 1 || y == SCENE_SIZE - 1 || gradient[at] == 0) continue;
            for (int side = 0; side < 2; side++) {
                memcpy(moved[side], image, sizeof image);
                moved[side][at] += side ? step : -step;
            }
            if (!same_decisions(image, moved[0]) || !same_decisions(image, moved[1])) continue;
            const double here = scene_smooth(task, image, NULL), down = here - scene_smooth(task, moved[0], NULL),
                         up = scene_smooth(task, moved[1], NULL) - here, slope = (up + down) / (2 * (double)step);
            if (fabs(up - down) > 0.2 * fmax(fabs(up), fabs(down)))
                continue; /* a kink: another channel, full coverage */
            gap += (slope - gradient[at]) * (slope - gradient[at]);
            size += slope * slope;
            compared++;
        }
        scene_task_free(task);
    }
    print_message("%d slopes differ by %.3g\n", compared, sqrt(gap / size));
    assert_true(compared > 300);
    assert_true(sqrt(gap / size) < 0.02);
    safetensors_close(w.file);
}

/* As a reward: planes in [-1,1], and a small step along the gradient raises the score of most pictures. */
static void test_reward(void **state) {
    (void)state;
    World w;
    Reward *r;
    float image[PICTURE], planes[PICTURE], slope[PICTURE], before, after;
    int better = 0, worse = 0;
    world_open(&w);
    assert_ok(reward_open("scene-smooth", NULL, 0, &r, &w.err), w.err);
    assert_non_null(r->score_gradient);
    for (int i = 0; i < w.count; i++) {
        char key[32];
        snprintf(key, sizeof key, "task%d", i);
        const Prompt prompt = {.text = "", .metadata = safetensors_metadata(w.file, key)};
        image_of(&w, i, image);
        for (int k = 0; k < PICTURE; k++) planes[k] = 2 * image[k % PIXELS * 3 + k / PIXELS] - 1;
        assert_ok(r->score_gradient(r, &prompt, planes, 1, SCENE_SIZE, SCENE_SIZE, &before, slope, &w.err), w.err);
        double squares = 0;
        for (int k = 0; k < PICTURE; k++) squares += (double)slope[k] * slope[k];
        for (int k = 0; k < PICTURE; k++) planes[k] += slope[k] * (float)(0.02 / fmax(squares, 1e-3));
        assert_ok(r->score_gradient(r, &prompt, planes, 1, SCENE_SIZE, SCENE_SIZE, &after, slope, &w.err), w.err);
        better += after > before + 1e-4f;
        worse += after < before - 1e-4f;
        if (i == 0)
            assert_fails(r->score_gradient(r, &prompt, planes, 1, 32, 32, &after, slope, &w.err), DRPO_E_INPUT,
                         "64 x 64", w.err);
    }
    print_message("a small step betters %d pictures, worsens %d\n", better, worse);
    assert_true(better > 8 * worse && better > w.count / 4);
    reward_close(r);
    safetensors_close(w.file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_value), cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_reward)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
