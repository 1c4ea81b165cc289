/* What is compared, and intervals on cases whose answers are known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "compare/compare.h"
#include "compare/scores.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

/* ---- variants ---- */

typedef struct Fixture {
    Job job;
    Comparison c;
} Fixture;

static Fixture open_fixture(drpo_verb verb, int argc, const char *const *argv) {
    Fixture f = {.c = {.arena = arena_new(), .seeds = 1}};
    Error err = {0};
    f.job.config = config_new(verb);
    assert_non_null(f.job.config);
    assert_non_null(f.c.arena);
    if (config_parse(f.job.config, argc, argv, &err) < 0) fail_msg("%s", err.text);
    return f;
}

static int make_variants(Fixture *f, Error *err) {
    f->c.job = &f->job;
    return config_verb(f->job.config) == DRPO_SWEEP ? variants_of_grid(&f->c, err) : variants_of_methods(&f->c, err);
}

static void close_fixture(Fixture *f) {
    config_free(f->job.config);
    arena_free(f->c.arena);
}

static Config *config_of(Fixture *f, int v) {
    Config *config;
    Error err = {0};
    if (variant_config(&f->c, &f->c.variant[v], &config, &err) < 0) fail_msg("%s", err.text);
    return config;
}

static void test_methods(void **state) {
    (void)state;
    const char *args[] = {
        "--methods", "drpo,soft,grpo", "--set", "soft:objective=awr", "--set", "grpo:lr=3e-4", "--lora-rank",
        "4",         "--steps",        "50"};
    Fixture f = open_fixture(DRPO_COMPARE, 10, args);
    Error err = {0};
    if (make_variants(&f, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(f.c.variants, 3);
    Config *soft = config_of(&f, 1), *grpo = config_of(&f, 2);
    assert_string_equal(config_text(soft, OPT_METHOD), "drpo");
    assert_string_equal(config_text(soft, OPT_OBJECTIVE), "awr");
    assert_string_equal(config_text(soft, OPT_LR), "0.001");
    assert_string_equal(config_text(soft, OPT_LORA_RANK), "4");
    assert_string_equal(config_text(soft, OPT_CHECKPOINT_EVERY), "5"); /* a tenth */
    assert_string_equal(config_text(soft, OPT_KEEP), "0");
    assert_string_equal(config_text(grpo, OPT_METHOD), "grpo");
    assert_string_equal(config_text(grpo, OPT_LR), "3e-4");
    assert_string_equal(config_text(grpo, OPT_NEIGHBOUR_NOISE), "0.3"); /* a default of the method survives */
    config_free(soft);
    config_free(grpo);
    close_fixture(&f);
}

static void test_grid(void **state) {
    (void)state;
    const char *args[] = {"--vary", "K=8,16", "--vary", "radii=0.1,0.3;1"};
    Fixture f = open_fixture(DRPO_SWEEP, 4, args);
    Error err = {0};
    if (make_variants(&f, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(f.c.variants, 4);
    assert_string_equal(f.c.variant[0].name, "candidates=8 radii=0.1,0.3");
    assert_string_equal(f.c.variant[0].slug, "candidates=8-radii=0.1,0.3");
    assert_string_equal(f.c.variant[3].name, "candidates=16 radii=1");
    Config *last = config_of(&f, 2);
    assert_string_equal(config_text(last, OPT_CANDIDATES), "16");
    assert_string_equal(config_text(last, OPT_RADII), "0.1,0.3");
    config_free(last);
    close_fixture(&f);
}

typedef struct Refused {
    drpo_verb verb;
    const char *args[4], *words;
} Refused;

static void test_refused(void **state) {
    (void)state;
    static const Refused cases[] = {
        {DRPO_COMPARE, {"--methods", "drpo,mine"}, "'mine' is no method"},
        {DRPO_COMPARE, {"--methods", "drpo,drpo"}, "two variants are called 'drpo'"},
        {DRPO_COMPARE, {"--methods", "drpo", "--set", "dpo:lr=1"}, "'dpo' is not named by --methods"},
        {DRPO_COMPARE, {"--methods", "drpo", "--set", "lr=1"}, "NAME:KEY=VALUE"},
        {DRPO_COMPARE, {"--methods", "drpo", "--set", "drpo:out=x"}, "itself decides --out"},
        {DRPO_COMPARE, {"--methods", "drpo", "--set", "drpo:seed=1"}, "itself decides --seed"},
        {DRPO_COMPARE, {"--methods", "drpo", "--set", "drpo:nothing=1"}, "'nothing' is no option"},
        {DRPO_COMPARE, {"--methods", "drpo", "--method", "dpo"}, "--methods"},
        {DRPO_SWEEP, {NULL}, "nothing to vary"},
        {DRPO_SWEEP, {"--vary", "lr"}, "KEY=VALUE"},
        {DRPO_SWEEP, {"--vary", "lr="}, "no value"},
        {DRPO_SWEEP, {"--vary", "lr=1,1"}, "two variants"},
        {DRPO_SWEEP, {"--vary", "lr=1", "--vary", "learning_rate=2"}, "names lr twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = 0;
        while (n < 4 && cases[i].args[n]) n++;
        Fixture f = open_fixture(cases[i].verb, n, cases[i].args);
        Error err = {0};
        assert_int_equal(make_variants(&f, &err), DRPO_E_USAGE);
        if (!strstr(err.text, cases[i].words)) fail_msg("'%s' does not say '%s'", err.text, cases[i].words);
        close_fixture(&f);
    }
}

static void test_wrong_value(void **state) {
    (void)state;
    const char *args[] = {"--vary", "lr=1e-3,fast"};
    Fixture f = open_fixture(DRPO_SWEEP, 2, args);
    Error err = {0};
    Config *config;
    assert_int_equal(make_variants(&f, &err), 0);
    assert_int_equal(variant_config(&f.c, &f.c.variant[1], &config, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, "'fast' is not a number"));
    close_fixture(&f);
}

/* ---- scores ---- */

enum { PROMPTS = 20, PICTURES = 4 };

static void write_file(const char *path, const char *text) {
    Error err = {0};
    if (file_write_atomic(path, text, strlen(text), &err) < 0) fail_msg("%s", err.text);
}

/* An evaluation in which `right` of 4 pictures of every prompt are right, `rare` prompts have one fewer. */
static void write_scores(const char *path, int base, int tuned, int rare) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < PROMPTS; i++)
            for (int j = 0; j < PICTURES; j++) {
                int right = side ? tuned - (i < rare) : base;
                fprintf(f,
                        "{\"model\": \"%s\", \"index\": %d, \"tag\": \"%s\", \"rewards\": {\"scene\": %g}, "
                        "\"correct\": %s}\n",
                        side ? "tuned" : "base", i, i % 2 ? "odd" : "even", 0.1 * right, j < right ? "true" : "false");
            }
    fclose(f);
    write_file(path, text);
    free(text);
}

static Scores read_scores(int variants, int seeds, const int *base, const int *tuned, int rare) {
    Scores s;
    Error err = {0};
    if (dir_make(TEST_TMP, &err) < 0 || scores_new(&s, variants, seeds, PROMPTS, &err) < 0) fail_msg("%s", err.text);
    for (int i = 0; i < variants * seeds; i++) {
        write_scores(TEST_TMP "/scores.jsonl", base[i], tuned[i], rare);
        if (scores_read(&s, i / seeds, i % seeds, TEST_TMP "/scores.jsonl", &err) < 0) fail_msg("%s", err.text);
    }
    return s;
}

static ScoreSummary summarise(const Scores *s, Arena *a) {
    ScoreSummary out;
    Error err = {0};
    if (scores_summarise(s, 1, a, &out, &err) < 0) fail_msg("%s", err.text);
    return out;
}

static void near(double got, double wanted) {
    if (!(fabs(got - wanted) < 1e-9)) fail_msg("%.9g instead of %.9g", got, wanted);
}

/* Without any variation between prompts and seeds, every interval is a point. */
static void test_constant(void **state) {
    (void)state;
    const int base[] = {1, 1}, tuned[] = {3, 2};
    Scores s = read_scores(2, 1, base, tuned, 0);
    Arena *a = arena_new();
    ScoreSummary out = summarise(&s, a);
    assert_int_equal(out.metrics, 4); /* even, odd, overall, scene */
    const ScoreMetric *m = score_metric(&out, "overall");
    near(m->base.value, 0.25);
    near(m->tuned[0].value, 0.75);
    near(m->gain[1].value, 0.25);
    near(m->lead[1].value, 0.25);
    near(m->lead[1].low, 0.25);
    near(m->lead[1].high, 0.25);
    near(score_metric(&out, "scene")->gain[0].value, 0.2);
    scores_free(&s);
    arena_free(a);
}

/* Both variants lose on the same prompts: each varies over prompts, their difference does not. */
static void test_paired(void **state) {
    (void)state;
    const int base[] = {2, 2}, tuned[] = {4, 3};
    Scores s = read_scores(2, 1, base, tuned, 10);
    Arena *a = arena_new();
    ScoreSummary out = summarise(&s, a);
    const ScoreMetric *m = score_metric(&out, "overall");
    assert_true(m->tuned[0].high - m->tuned[0].low > 0.02);
    near(m->lead[1].low, 0.25);
    near(m->lead[1].high, 0.25);
    scores_free(&s);
    arena_free(a);
}

/* Training seeds are drawn too: runs that differ give an interval from the worst to the best. */
static void test_seeds(void **state) {
    (void)state;
    const int base[] = {1, 1, 1, 1}, tuned[] = {4, 2, 4, 2};
    Scores s = read_scores(2, 2, base, tuned, 0);
    Arena *a = arena_new();
    ScoreSummary out = summarise(&s, a);
    const ScoreMetric *m = score_metric(&out, "overall");
    near(m->tuned[0].value, 0.75);
    near(m->tuned[0].low, 0.5);
    near(m->tuned[0].high, 1);
    near(m->lead[1].low, 0); /* the same seeds for both */
    near(m->lead[1].high, 0);
    near(m->each[0], 1);
    near(m->each[1], 0.5);
    scores_free(&s);
    arena_free(a);
}

static void test_untrained(void **state) {
    (void)state;
    const int base[] = {1, 1}, tuned[] = {3, 2};
    Scores s = read_scores(2, 1, base, tuned, 0);
    Arena *a = arena_new();
    scores_untrained(&s, 1, 0, 0);
    ScoreSummary out = summarise(&s, a);
    near(score_metric(&out, "overall")->tuned[1].value, 0.25);
    near(score_metric(&out, "overall")->gain[1].value, 0);
    scores_free(&s);
    arena_free(a);
}

static void test_broken_scores(void **state) {
    (void)state;
    Scores s;
    Error err = {0};
    assert_int_equal(dir_make(TEST_TMP, &err), 0);
    assert_int_equal(scores_new(&s, 1, 1, 2, &err), 0);
    write_file(TEST_TMP "/few.jsonl", "{\"model\": \"base\", \"index\": 0, \"rewards\": {}}\n"
                                      "{\"model\": \"tuned\", \"index\": 0, \"rewards\": {}}\n");
    assert_int_equal(scores_read(&s, 0, 0, TEST_TMP "/few.jsonl", &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "lacks pictures of prompt 1"));
    error_clear(&err);
    write_file(TEST_TMP "/far.jsonl", "{\"model\": \"base\", \"index\": 2, \"rewards\": {}}\n");
    assert_int_equal(scores_read(&s, 0, 0, TEST_TMP "/far.jsonl", &err), DRPO_E_INPUT);
    scores_free(&s);
}

/* ---- clock ---- */

static void test_clock(void **state) {
    (void)state;
    Error err = {0};
    Arena *a = arena_new();
    Run r = {.path = TEST_TMP "/run"};
    dir_remove(r.path, NULL);
    assert_int_equal(dir_make(TEST_TMP "/run/checkpoint-2", &err), 0);
    assert_int_equal(dir_make(TEST_TMP "/run/checkpoint-4", &err), 0);
    assert_int_equal(dir_make(TEST_TMP "/run/final", &err), 0);
    write_file(TEST_TMP "/run/metrics.jsonl", "{\"step\": 1, \"candidates\": 8, \"time\": {\"seconds\": 1}}\n"
                                              "{\"step\": 2, \"candidates\": 8, \"time\": {\"seconds\": 2}}\n"
                                              "{\"step\": 3, \"candidates\": 8, \"time\": {\"seconds\": 1}}\n"
                                              "{\"step\": 4, \"candidates\": 8, \"time\": {\"seconds\": 1}}\n");
    if (run_read_clock(&r, &err) < 0) fail_msg("%s", err.text);
    assert_int_equal(r.updates, 4);
    near(r.seconds, 5);
    near(r.calls, 32);
    const struct {
        long updates, made;
        const char *name;
    } cases[] = {{4, 4, "final"}, {3, 2, "checkpoint-2"}, {2, 2, "checkpoint-2"}, {1, 0, NULL}, {0, 0, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        long made;
        const char *adapter = run_adapter_by(&r, cases[i].updates, a, &made);
        assert_int_equal(made, cases[i].made);
        assert_true((adapter == NULL) == (cases[i].name == NULL));
        if (adapter) assert_string_equal(strrchr(adapter, '/') + 1, cases[i].name);
    }
    arena_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),     cmocka_unit_test(test_grid),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wrong_value), cmocka_unit_test(test_constant),  cmocka_unit_test(test_paired),
        cmocka_unit_test(test_seeds),       cmocka_unit_test(test_untrained), cmocka_unit_test(test_broken_scores),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
