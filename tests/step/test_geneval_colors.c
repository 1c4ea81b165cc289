/* Colours by CLIP against those of transformers (tools/golden/geneval_colors.py): object by object, and through the
 * reward with a detector that gives none. */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "format/safetensors.h"
#include "step/reward/geneval_clip.h"
#include "step/reward/geneval_reward.h"

#define GOLDEN SOURCE_DIR "/tests/golden"
#define TOKENIZER SOURCE_DIR "/tests/fixtures/tiny-turbo"
#define DETECTOR "geneval:python3 " SOURCE_DIR "/tests/step/fake_detector.py "
#define CLIP "&clip=" GOLDEN "/clip_model&tokenizer=" TOKENIZER "&threads=1"

typedef struct Golden {
    SafeFile *io;
    int objects, height, width;
    uint8_t *rgb; /* [2,height,width,3] */
    const int32_t *picture, *class, *masked, *color;
    const float *box, *cosine;
} Golden;

static const void *values(const Golden *g, const char *name) {
    const SafeTensor *t = safetensors_find(g->io, name);
    if (!t) fail_msg("no %s", name);
    return t->data;
}

static void open_golden(Golden *g) {
    Error err = {0};
    *g = (Golden){0};
    assert_ok(safetensors_open(GOLDEN "/geneval_colors/io.safetensors", &g->io, &err), err);
    const SafeTensor *t = safetensors_find(g->io, "input.pictures");
    assert_non_null(t);
    g->height = (int)t->dim[1];
    g->width = (int)t->dim[2];
    g->rgb = malloc(t->bytes / 4);
    for (size_t i = 0; i < t->bytes / 4; i++) g->rgb[i] = (uint8_t)((const int32_t *)t->data)[i];
    g->objects = (int)safetensors_find(g->io, "input.box")->dim[0];
    g->picture = values(g, "input.picture");
    g->class = values(g, "input.class");
    g->masked = values(g, "input.masked");
    g->box = values(g, "input.box");
    g->cosine = values(g, "output.cosine");
    g->color = values(g, "output.color");
}

static void close_golden(Golden *g) {
    safetensors_close(g->io);
    free(g->rgb);
}

static const uint8_t *picture_of(const Golden *g, int k) {
    return g->rgb + (size_t)g->picture[k] * (size_t)g->height * (size_t)g->width * 3;
}

static GenevalClip *open_model(void) {
    const ClipChoice choice = {
        .path = GOLDEN "/clip_model", .tokenizer = TOKENIZER, .activation = "", .texts = true, .get = "a CLIP"};
    GenevalClip *clip = NULL;
    Error err = {0};
    assert_ok(geneval_clip_open(&choice, 1, &clip, &err), err);
    return clip;
}

/* The ellipse in a box, as runs down the columns. */
static int write_runs(const float box[4], int height, int width, uint32_t *runs) {
    int n = 1;
    runs[0] = 0;
    for (int x = 0; x < width; x++)
        for (int y = 0; y < height; y++) {
            const double a = (2 * x + 1 - box[0] - box[2]) / (box[2] - box[0]);
            const double b = (2 * y + 1 - box[1] - box[3]) / (box[3] - box[1]);
            if ((a * a + b * b < 1) != (n % 2 == 0)) runs[n++] = 0;
            runs[n - 1]++;
        }
    return n;
}

static void test_objects_have_the_colors_of_transformers(void **state) {
    (void)state;
    Golden g;
    Error err = {0};
    int different = 0;
    open_golden(&g);
    GenevalClip *clip = open_model();
    uint32_t *runs = malloc(((size_t)g.height * (size_t)g.width + 1) * sizeof *runs);
    for (int k = 0; k < g.objects; k++) {
        GenevalObject o = {.class = g.class[k], .color = -1};
        const GenevalObject *list[] = {&o};
        GenevalView view = {clip, picture_of(&g, k), g.height, g.width};
        int color = -1;
        for (int i = 0; i < 4; i++) o.box[i] = (double)g.box[4 * k + i];
        if (g.masked[k]) {
            o.runs = runs;
            o.n_runs = write_runs(g.box + 4 * k, g.height, g.width, runs);
        }
        assert_ok(geneval_clip_colors(&view, o.class, list, 1, &color, &err), err);
        if (color != g.color[k])
            fail_msg("object %d is %s, not %s", k, geneval_color_name[color], geneval_color_name[g.color[k]]);
        different += color != g.color[0];
        o.color = (color + 1) % GENEVAL_COLORS; /* the detector's word counts more */
        assert_ok(geneval_clip_colors(&view, o.class, list, 1, &color, &err), err);
        assert_int_equal(color, o.color);
    }
    assert_true(different > 0);
    free(runs);
    geneval_clip_free(clip);
    close_golden(&g);
}

/* Objects of a whole box, by number; a class is asked about again after others. */
static void test_cosines_are_those_of_transformers(void **state) {
    (void)state;
    Golden g;
    Error err = {0};
    open_golden(&g);
    GenevalClip *clip = open_model();
    for (int turn = 0; turn < 2 * g.objects; turn++) {
        const int k = turn % g.objects;
        const float *box = g.box + 4 * k;
        const int x = (int)box[0], y = (int)box[1], width = (int)box[2] - x, height = (int)box[3] - y;
        double cosine[GENEVAL_COLORS];
        if (g.masked[k] || y < 0) continue;
        uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
        for (int row = 0; row < height; row++)
            memcpy(rgb + 3 * row * width, picture_of(&g, k) + 3 * ((y + row) * g.width + x), 3 * (size_t)width);
        assert_ok(geneval_clip_rate(clip, g.class[k], rgb, height, width, cosine, &err), err);
        for (int c = 0; c < GENEVAL_COLORS; c++)
            if (!(fabs(cosine[c] - (double)g.cosine[GENEVAL_COLORS * k + c]) <= 5e-6))
                fail_msg("object %d, %s: %.8f, not %.8f", k, geneval_color_name[c], cosine[c],
                         (double)g.cosine[GENEVAL_COLORS * k + c]);
        free(rgb);
    }
    geneval_clip_free(clip);
    close_golden(&g);
}

/* One row of a picture, with and without its ends; then one that is too long to be resized as it is. */
static void test_slender_objects_lose_only_what_is_not_seen(void **state) {
    (void)state;
    static uint8_t rgb[3 * 1000];
    Error err = {0};
    GenevalClip *clip = open_model();
    for (int length = 88; length < 96; length++) {
        double whole[GENEVAL_COLORS], cut[GENEVAL_COLORS];
        for (int i = 0; i < 3 * length; i++) rgb[i] = (uint8_t)(i * i * 37 % 251);
        Image crop = {length, 1, rgb};
        assert_ok(geneval_clip_rate(clip, 16, rgb, 1, length, whole, &err), err);
        geneval_clip_shorten(&crop);
        assert_in_range(crop.width, 64, 67);
        assert_ok(geneval_clip_rate(clip, 16, crop.rgb, 1, crop.width, cut, &err), err);
        for (int c = 0; c < GENEVAL_COLORS; c++) assert_true(fabs(whole[c] - cut[c]) < 1e-6);
    }
    const GenevalObject o = {.class = 16, .color = -1, .box = {0, 0, 1, 1000}};
    const GenevalObject *list[] = {&o};
    GenevalView view = {clip, rgb, 1000, 1};
    int color = -1;
    assert_ok(geneval_clip_colors(&view, 16, list, 1, &color, &err), err);
    assert_in_range(color, 0, GENEVAL_COLORS - 1);
    geneval_clip_free(clip);
}

static void judge(const char *spec, const Pictures *pictures, const char *color, bool correct) {
    char metadata[160];
    GenevalResult result;
    Reward *r = NULL;
    Error err = {0};
    snprintf(metadata, sizeof metadata,
             "{\"tag\":\"colors\",\"include\":[{\"class\":\"dog\",\"count\":1,"
             "\"color\":\"%s\"}]}",
             color);
    const Prompt prompt = {"a photo of a dog", "colors", metadata};
    assert_ok(reward_open(spec, NULL, 0, &r, &err), err);
    assert_ok(geneval_reward_judge(r, &prompt, pictures, &result, &err), err);
    if (result.verdict.correct != correct) fail_msg("%s: %s", color, result.verdict.reason);
    free(result.details);
    reward_close(r);
}

/* The last picture's dog, which is green to a detector that names colors. */
static void test_the_reward_asks_clip_where_the_detector_is_silent(void **state) {
    (void)state;
    Golden g;
    Error err = {0};
    Reward *r = NULL;
    open_golden(&g);
    const int dog = g.objects - 2;
    assert_int_equal(g.class[dog], geneval_class("dog"));
    const Pictures pictures = {picture_of(&g, dog), 1, g.height, g.width};
    const char *color = geneval_color_name[g.color[dog]];
    assert_string_not_equal(color, "green");
    judge(DETECTOR "plain?images=rgb" CLIP, &pictures, color, true);
    judge(DETECTOR "plain?images=rgb" CLIP, &pictures, "green", false);
    judge(DETECTOR "objects?images=rgb" CLIP, &pictures, "green", true);
    assert_fails(reward_open(DETECTOR "plain?images=rgb&clip=" GOLDEN "/nowhere", NULL, 0, &r, &err), DRPO_E_INPUT,
                 "clip=", err);
    close_golden(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_have_the_colors_of_transformers),
        cmocka_unit_test(test_cosines_are_those_of_transformers),
        cmocka_unit_test(test_slender_objects_lose_only_what_is_not_seen),
        cmocka_unit_test(test_the_reward_asks_clip_where_the_detector_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
