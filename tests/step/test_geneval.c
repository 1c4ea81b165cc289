/* GenEval's metadata and rule on detections made by hand: counts, thresholds, colors, positions and their borders. */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "base/arena.h"
#include "format/prompts.h"
#include "step/reward/geneval.h"

static GenevalTask task_of(const char *metadata) {
    GenevalTask t;
    Error err = {0};
    assert_ok(geneval_task_parse(metadata, &t, &err), err);
    return t;
}

static GenevalObject object(const char *class, double score, double x, double y, double width, double height) {
    return (GenevalObject){
        .class = geneval_class(class), .score = score, .box = {x, y, x + width, y + height}, .color = -1};
}

static GenevalVerdict judge_with(const char *metadata, const GenevalOptions *o, const GenevalObject *objects, int n) {
    const GenevalTask task = task_of(metadata);
    GenevalKept kept;
    GenevalVerdict verdict;
    Error err = {0};
    assert_ok(geneval_keep(&task, o, objects, n, &kept, &err), err);
    assert_ok(geneval_judge(&task, o, &kept, NULL, NULL, &verdict, &err), err);
    geneval_kept_free(&kept);
    assert_int_equal(verdict.correct, verdict.reason[0] == 0);
    return verdict;
}

static void expect(const char *metadata, const GenevalObject *objects, int n, const char *reason) {
    assert_string_equal(judge_with(metadata, &geneval_defaults, objects, n).reason, reason);
}

#define ONE "{\"tag\":\"single_object\",\"prompt\":\"\",\"include\":[{\"class\":\"dog\",\"count\":1}]}"
#define THREE                                                                                                          \
    "{\"tag\":\"counting\",\"include\":[{\"class\":\"dog\",\"count\":3}],\"exclude\":[{\"class\":\"dog\",\"count\":4}" \
    "]}"
#define RED "{\"tag\":\"colors\",\"include\":[{\"class\":\"car\",\"count\":1,\"color\":\"red\"}]}"
#define LEFT                                                                                                           \
    "{\"tag\":\"position\",\"include\":[{\"class\":\"cat\",\"count\":1},{\"class\":\"dog\",\"count\":1,"               \
    "\"position\":[\"left of\",0]}]}"

/* ---- metadata ---- */

static void test_all_prompts_of_the_benchmark_are_read(void **state) {
    (void)state;
    Arena *a = arena_new();
    PromptList list;
    Error err = {0};
    int tags[6] = {0}, colors = 0, positions = 0, excludes = 0;
    static const char *const names[] = {"single_object", "two_object", "counting", "colors", "position", "color_attr"};
    assert_ok(prompts_read(SOURCE_DIR "/assets/prompts/geneval.jsonl", a, &list, &err), err);
    assert_int_equal(list.count, 553);
    for (size_t i = 0; i < list.count; i++) {
        const GenevalTask t = task_of(list.items[i].metadata);
        for (int k = 0; k < 6; k++) tags[k] += strcmp(t.tag, names[k]) == 0;
        for (int k = 0; k < t.includes; k++) {
            colors += t.include[k].color >= 0;
            positions += t.include[k].relation >= 0;
        }
        excludes += t.excludes;
        if (i < 80) assert_non_null(strstr(list.items[i].text, geneval_class_name[t.include[0].class]));
    }
    const int expected[6] = {80, 99, 80, 94, 100, 100};
    assert_memory_equal(tags, expected, sizeof tags);
    assert_int_equal(colors, 94 + 200);
    assert_int_equal(positions, 100);
    assert_int_equal(excludes, 80);
    arena_free(a);
}

static void test_metadata_that_means_nothing_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *metadata, *part;
    } cases[] = {
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"unicorn\",\"count\":1}]}", "unknown class unicorn"},
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"dog\",\"count\":0}]}", "count"},
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"dog\"}]}", "no count"},
        {"{\"tag\":\"x\",\"include\":[{\"count\":1}]}", "no class"},
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"dog\",\"count\":1,\"color\":\"mauve\"}]}", "unknown color mauve"},
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"dog\",\"count\":1,\"position\":[\"left of\",0]}]}", "earlier"},
        {"{\"tag\":\"x\",\"include\":[{\"class\":\"dog\",\"count\":1},{\"class\":\"cat\",\"count\":1,"
         "\"position\":[\"beside\",0]}]}",
         "position"},
        {"{\"tag\":\"x\",\"exclude\":[{\"class\":\"dog\",\"count\":1,\"color\":\"red\"}]}", "unknown key color"},
        {"{\"tag\":\"x\",\"include\":7}", "not a list"},
        {"{\"include\":[{\"class\":\"dog\",\"count\":1}]}", "no \"tag\""},
        {"{\"tag\":\"x\"}", "neither"},
        {"[]", "no \"tag\""},
    };
    GenevalTask t;
    Error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(geneval_task_parse(cases[i].metadata, &t, &err), DRPO_E_INPUT, cases[i].part, err);
    assert_fails(geneval_task_parse(NULL, &t, &err), DRPO_E_INPUT, "there is none", err);
    assert_int_equal(geneval_class("mouse"), geneval_class("computer mouse"));
    assert_int_equal(geneval_class("mouse"), 64);
    assert_int_equal(geneval_class("toothbrush"), 79);
}

/* ---- counts and thresholds ---- */

static void test_thresholds_are_strict(void **state) {
    (void)state;
    GenevalObject dog[4] = {object("dog", 0.3, 0, 0, 9, 9)};
    expect(ONE, dog, 1, "expected dog>=1, found 0");
    dog[0].score = nextafter(0.3, 1);
    expect(ONE, dog, 1, "");
    for (int k = 0; k < 4; k++) dog[k] = object("dog", 0.95, 20 * k, 0, 9, 9);
    expect(THREE, dog, 3, "");
    dog[2].score = 0.9;
    expect(THREE, dog, 3, "expected dog>=3, found 2");
    dog[2].score = 0.85;
    expect(THREE, dog, 3, "expected dog>=3, found 2");
    dog[2].score = dog[3].score = 0.95;
    expect(THREE, dog, 4, "expected dog<4, found 4");
    dog[3].score = 0.5; /* not sure enough to be counted */
    expect(THREE, dog, 4, "");
}

static void test_extra_objects_are_no_mistake(void **state) {
    (void)state;
    const GenevalObject found[] = {object("cat", 0.4, 0, 0, 9, 9), object("dog", 0.5, 0, 0, 9, 9),
                                   object("dog", 0.8, 30, 0, 9, 9), object("zebra", 0.99, 0, 0, 9, 9)};
    expect("{\"tag\":\"two_object\",\"include\":[{\"class\":\"dog\",\"count\":1},{\"class\":\"cat\",\"count\":1}]}",
           found, 4, "");
    expect("{\"tag\":\"two_object\",\"include\":[{\"class\":\"dog\",\"count\":1},{\"class\":\"cow\",\"count\":1}]}",
           found, 4, "expected cow>=1, found 0");
}

static void test_the_surest_sixteen_are_kept(void **state) {
    (void)state;
    GenevalObject dog[17];
    const GenevalTask task = task_of(ONE);
    GenevalKept kept;
    Error err = {0};
    for (int k = 0; k < 17; k++) dog[k] = object("dog", 0.5 + 0.01 * k, 10 * k, 0, 5, 5);
    assert_ok(geneval_keep(&task, &geneval_defaults, dog, 17, &kept, &err), err);
    const int class = geneval_class("dog");
    assert_int_equal(kept.first[class], 0);
    assert_int_equal(kept.first[class + 1], 16);
    assert_int_equal(kept.first[GENEVAL_CLASSES], 16);
    for (int k = 0; k < 16; k++) assert_ptr_equal(kept.object[k], &dog[16 - k]);
    geneval_kept_free(&kept);
}

static void test_overlapping_objects_are_dropped_only_when_asked(void **state) {
    (void)state;
    GenevalOptions strict = geneval_defaults;
    /* 10 x 10 pixels each with the border counted, 50 shared: IoU = 50 / 150 */
    const GenevalObject dog[] = {object("dog", 0.99, 0, 0, 9, 9), object("dog", 0.98, 5, 0, 9, 9),
                                 object("dog", 0.97, 100, 0, 9, 9), object("dog", 0.96, 0, 0, 9, 9)};
    expect(THREE, dog, 4, "expected dog<4, found 4");
    strict.max_overlap = 0.34;
    assert_string_equal(judge_with(THREE, &strict, dog, 4).reason, "");
    strict.max_overlap = 1.0 / 3; /* the limit itself is too much */
    assert_string_equal(judge_with(THREE, &strict, dog, 4).reason, "expected dog>=3, found 2");
}

/* ---- colors ---- */

static void test_colors_of_the_surest_objects_decide(void **state) {
    (void)state;
    GenevalObject car[] = {object("car", 0.5, 0, 0, 9, 9), object("car", 0.9, 50, 0, 9, 9)};
    car[0].color = geneval_color("red");
    car[1].color = geneval_color("blue");
    expect(RED, car, 2, "expected red car>=1, found 0 red; and 1 blue");
    car[1].score = 0.4;
    expect(RED, car, 2, "");
    expect("{\"tag\":\"x\",\"include\":[{\"class\":\"car\",\"count\":2,\"color\":\"red\"}]}", car, 2,
           "expected red car>=2, found 1 red; and 1 red, 1 blue");
}

static void test_a_color_nobody_knows_is_an_error(void **state) {
    (void)state;
    const GenevalTask task = task_of(RED);
    const GenevalObject car = object("car", 0.5, 0, 0, 9, 9);
    GenevalKept kept;
    GenevalVerdict verdict;
    Error err = {0};
    assert_ok(geneval_keep(&task, &geneval_defaults, &car, 1, &kept, &err), err);
    assert_fails(geneval_judge(&task, &geneval_defaults, &kept, NULL, NULL, &verdict, &err), DRPO_E_REWARD, "color",
                 err);
    geneval_kept_free(&kept);
}

static int paint_blue(void *user, int class, const GenevalObject *const *objects, int n, int *colors, Error *err) {
    (void)err;
    assert_int_equal(class, geneval_class("car"));
    assert_int_equal(n, 1);
    assert_ptr_equal(objects[0], user);
    colors[0] = geneval_color("blue");
    return 0;
}

static void test_a_colorist_has_the_last_word(void **state) {
    (void)state;
    const GenevalTask task = task_of(RED);
    GenevalObject car = object("car", 0.5, 0, 0, 9, 9);
    GenevalKept kept;
    GenevalVerdict verdict;
    Error err = {0};
    car.color = geneval_color("red");
    assert_ok(geneval_keep(&task, &geneval_defaults, &car, 1, &kept, &err), err);
    assert_ok(geneval_judge(&task, &geneval_defaults, &kept, paint_blue, &car, &verdict, &err), err);
    assert_string_equal(verdict.reason, "expected red car>=1, found 0 red; and 1 blue");
    geneval_kept_free(&kept);
}

/* ---- positions ---- */

enum { L = 1, R = 2, A = 4, B = 8 };

static unsigned relations(double x1, double y1, double x2, double y2, const double b[4]) {
    return geneval_relations((double[]){x1, y1, x2, y2}, b, 0.1);
}

static void test_relations_of_boxes(void **state) {
    (void)state;
    static const struct {
        double b[4];
        unsigned is;
    } cases[] = {{{200, 0, 300, 100}, L},       {{0, 200, 100, 300}, A},
                 {{200, 200, 300, 300}, L | A}, {{15, 0, 115, 100}, 0},
                 {{30, 0, 130, 100}, 0},        {{45, 0, 145, 100}, L},
                 {{45, 45, 145, 145}, 0},       {{90, 50, 190, 150}, L},
                 {{-200, 0, -100, 100}, R},     {{-200, -200, -100, -100}, R | B},
                 {{0, 0, 100, 100}, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(relations(0, 0, 100, 100, cases[i].b), cases[i].is);
}

/* Two boxes of 100 beside one another at distance x have (x - 20) / x: above a half only beyond 40. */
static void test_the_border_of_a_relation_is_outside(void **state) {
    (void)state;
    assert_int_equal(relations(0, 0, 100, 100, (double[]){40, 0, 140, 100}), 0);
    assert_int_equal(relations(0, 0, 100, 100, (double[]){40.001, 0, 140.001, 100}), L);
    assert_int_equal(relations(0, 0, 100, 100, (double[]){20, 0, 120, 100}), 0);
    assert_int_equal(relations(0, 0, 0, 0, (double[]){0.0009, 0, 0.0009, 0}), 0); /* less than a thousandth */
    assert_int_equal(relations(0, 0, 0, 0, (double[]){0.0011, 0, 0.0011, 0}), L);
}

static double draw(unsigned *state) { return (*state = *state * 1664525u + 1013904223u) / 4294967296.0; }

static void test_relations_are_symmetric_and_keep_under_motion(void **state) {
    (void)state;
    unsigned seed = 1;
    for (int i = 0; i < 2000; i++) {
        double a[4], b[4], c[4], d[4];
        for (int k = 0; k < 2; k++) {
            a[k] = 400 * draw(&seed);
            b[k] = 400 * draw(&seed);
            a[k + 2] = a[k] + 5 + 200 * draw(&seed);
            b[k + 2] = b[k] + 5 + 200 * draw(&seed);
        }
        const unsigned ab = geneval_relations(a, b, 0.1), ba = geneval_relations(b, a, 0.1);
        assert_int_equal(!!(ab & L), !!(ba & R));
        assert_int_equal(!!(ab & R), !!(ba & L));
        assert_int_equal(!!(ab & A), !!(ba & B));
        for (int k = 0; k < 4; k++) {
            c[k] = 4 * a[k] + 64;
            d[k] = 4 * b[k] + 64;
        }
        assert_int_equal(geneval_relations(c, d, 0.1), ab);
    }
}

static void test_positions_in_pictures(void **state) {
    (void)state;
    GenevalObject found[] = {object("cat", 0.9, 200, 0, 100, 100), object("dog", 0.8, 0, 0, 100, 100),
                             object("dog", 0.7, 400, 0, 100, 100)};
    expect(LEFT, found, 3, ""); /* the surer dog decides */
    found[1].score = 0.6;
    expect(LEFT, found, 3, "expected dog left of target, found right of target");
    expect(LEFT, found + 1, 2, "expected cat>=1, found 0\nno target for dog to be left of");
    expect(LEFT, found, 1, "expected dog>=1, found 0");
    found[2] = object("dog", 0.7, 200, 0, 100, 100);
    expect(LEFT, found, 3, "expected dog left of target, found  target");
}

static void test_every_object_must_stand_right(void **state) {
    (void)state;
    static const char two[] =
        "{\"tag\":\"x\",\"include\":[{\"class\":\"cat\",\"count\":2},{\"class\":\"dog\",\"count\":2,"
        "\"position\":[\"above\",0]}]}";
    GenevalObject found[] = {object("cat", 0.9, 0, 300, 50, 50), object("cat", 0.8, 60, 300, 50, 50),
                             object("dog", 0.9, 0, 0, 50, 50), object("dog", 0.8, 60, 0, 50, 50)};
    expect(two, found, 4, "");
    found[3].box[1] = 400, found[3].box[3] = 450;
    expect(two, found, 4, "expected dog above target, found below target");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_prompts_of_the_benchmark_are_read),
        cmocka_unit_test(test_metadata_that_means_nothing_is_refused),
        cmocka_unit_test(test_thresholds_are_strict),
        cmocka_unit_test(test_extra_objects_are_no_mistake),
        cmocka_unit_test(test_the_surest_sixteen_are_kept),
        cmocka_unit_test(test_overlapping_objects_are_dropped_only_when_asked),
        cmocka_unit_test(test_colors_of_the_surest_objects_decide),
        cmocka_unit_test(test_a_color_nobody_knows_is_an_error),
        cmocka_unit_test(test_a_colorist_has_the_last_word),
        cmocka_unit_test(test_relations_of_boxes),
        cmocka_unit_test(test_the_border_of_a_relation_is_outside),
        cmocka_unit_test(test_relations_are_symmetric_and_keep_under_motion),
        cmocka_unit_test(test_positions_in_pictures),
        cmocka_unit_test(test_every_object_must_stand_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
