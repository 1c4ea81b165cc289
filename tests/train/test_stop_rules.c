/* --stop-when: what is accepted, when each rule fires, which evaluation is kept, and that records tell a resumed run
 * the same. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/jsonl.h"
#include "train/stop_rules.h"

static Config *options(const char *rules, const char *key, const char *value) {
    Error err = {0};
    Config *c = config_new(DRPO_TRAIN);
    assert_non_null(c);
    assert_ok(config_set(c, "eval-reward", "scene", SOURCE_FLAG, &err), err);
    if (key) assert_ok(config_set(c, key, value, SOURCE_FLAG, &err), err);
    assert_ok(config_set(c, "stop-when", rules, SOURCE_FLAG, &err), err);
    return c;
}

static StopRules rules_of(const char *text) {
    Error err = {0};
    StopRules s;
    Config *c = options(text, NULL, NULL);
    assert_ok(stop_rules_open(c, &s, &err), err);
    config_free(c);
    return s;
}

static void test_parsing(void **state) {
    (void)state;
    StopRules s = rules_of("heldout_drop=5%,diversity-below=0.7,reward_plateau=3");
    assert_int_equal(s.count, 3);
    assert_true(s.rule[0].percent && s.rule[0].limit == 5 && !s.rule[1].percent && s.rule[2].limit == 3);
    assert_string_equal(s.rule[1].text, "diversity_below=0.7"); /* '-' and '_' alike */
    assert_int_equal(rules_of("off").count, 0);
    assert_int_equal(rules_of("").count, 0);
}

static void refuse(const char *rules, const char *key, const char *value, const char *part) {
    Error err = {0};
    StopRules s;
    Config *c = options(rules, key, value);
    assert_fails(stop_rules_open(c, &s, &err), DRPO_E_USAGE, part, err);
    config_free(c);
}

static void test_refusals(void **state) {
    (void)state;
    refuse("beauty_below=1", NULL, NULL,
           "there are heldout_drop, diversity_below, feature_diversity_below, saturation_above");
    refuse("diversity_below", NULL, NULL, "number above 0, as in diversity_below=0.7");
    refuse("diversity_below=half", NULL, NULL, "'half'");
    refuse("diversity_below=70%", NULL, NULL, "'70%'"); /* a ratio already */
    refuse("saturation_above=-1", NULL, NULL, "'-1'");
    refuse("saturation_above=nan", NULL, NULL, "'nan'");
    refuse("heldout_drop=0.1x", NULL, NULL, "a percentage");
    refuse("reward_plateau=2.5", NULL, NULL, "whole number");
    refuse("off,diversity_below=0.7", NULL, NULL, "no such rule"); /* one or the other */
    refuse("diversity_below=0.7", "eval-every", "0", "--eval-every 0");
    refuse("diversity_below=0.7", "eval-seeds", "1", "--eval-seeds");
    refuse("feature_diversity_below=0.7", "eval-seeds", "1", "--eval-seeds");
    refuse("feature_diversity_below=0.7", "method", "dpo", "--method dpo");
    Error err = {0};
    StopRules s;
    Config *c = config_new(DRPO_TRAIN);
    assert_ok(config_set(c, "stop-when", "heldout_drop=0.1", SOURCE_FLAG, &err), err);
    assert_fails(stop_rules_open(c, &s, &err), DRPO_E_USAGE, "give --eval-reward", err);
    config_free(c);
}

/* One line of eval.jsonl. */
typedef struct Numbers {
    double reward, heldout, diversity, features, saturation, high_frequency, distance;
} Numbers;

static const Numbers fine = {1, 0.8, 1, 1, 1, 1, 0.1};

static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *line_of(long step, Numbers n) {
    json_t *line = json_pack("{s:I, s:{s:f, s:o}, s:{s:{s:f, s:o}}, s:{s:{s:o, s:o, s:f, s:f}, s:{s:f}}}", "step",
                             (json_int_t)step, "reward", "base", 0.5, "tuned", real(n.reward), "heldout", "scene",
                             "base", 0.8, "tuned", real(n.heldout), "gauges", "ratio", "diversity", real(n.diversity),
                             "feature_diversity", real(n.features), "saturation", n.saturation, "high_frequency",
                             n.high_frequency, "distance", "latent", n.distance);
    assert_non_null(line);
    return line;
}

static bool judge(StopRules *s, long step, Numbers n) {
    json_t *line = line_of(step, n);
    const bool keep = stop_rules_judge(s, line);
    json_decref(line);
    return keep;
}

/* At its limit a rule holds; beyond it fires and says so. */
static void check_rule(const char *rule, Numbers at, Numbers beyond, double value, const char *why) {
    StopRules s = rules_of(rule);
    assert_true(judge(&s, 0, fine) && !s.last.fired);
    judge(&s, 10, at);
    if (s.last.fired) fail_msg("%s fired at its limit", rule);
    assert_false(judge(&s, 20, beyond));
    if (!s.last.fired || fabs(s.last.value - value) > 1e-9 || !strstr(s.last.why, why) ||
        strcmp(s.last.rules, rule) != 0)
        fail_msg("%s: %d, %.17g, '%s', '%s'", rule, s.last.fired, s.last.value, s.last.rules, s.last.why);
}

static Numbers with(size_t field, double value) {
    Numbers n = fine;
    *(double *)((char *)&n + field) = value;
    return n;
}
#define WITH(field, value) with(offsetof(Numbers, field), value)

static void test_each_rule(void **state) {
    (void)state;
    check_rule("heldout_drop=0.25", WITH(heldout, 0.55), WITH(heldout, 0.5), 0.3,
               "scene fell by 0.3 from its best 0.8");
    check_rule("heldout_drop=25%", WITH(heldout, 0.61), WITH(heldout, 0.55), 0.25, "to 0.55");
    check_rule("diversity_below=0.7", WITH(diversity, 0.7), WITH(diversity, 0.65), 0.65, "0.65 times as far apart");
    check_rule("feature_diversity_below=0.7", WITH(features, 0.7), WITH(features, 0.65), 0.65, "features");
    check_rule("saturation_above=1.5", WITH(saturation, 1.5), WITH(saturation, 1.6), 1.6, "1.6 times as saturated");
    check_rule("highfreq_above=2", WITH(high_frequency, 2), WITH(high_frequency, 3), 3, "3 times the energy");
    check_rule("distance_above=0.5", WITH(distance, 0.5), WITH(distance, 0.75), 0.75, "0.75 of the base's norm");
    check_rule("reward_plateau=2", fine, fine, 2, "not risen since step 0, for 2 evaluations");
}

/* The best so far counts, not the base alone; what was not measured breaks no rule. */
static void test_drop_from_the_best(void **state) {
    (void)state;
    StopRules s = rules_of("heldout_drop=0.1");
    judge(&s, 0, fine);
    judge(&s, 10, WITH(heldout, 0.95));
    judge(&s, 20, WITH(heldout, NAN));
    assert_false(s.last.fired);
    judge(&s, 30, WITH(heldout, 0.84));
    assert_true(s.last.fired);
    s = rules_of("diversity_below=0.7,feature_diversity_below=0.7");
    judge(&s, 0, WITH(diversity, NAN));
    judge(&s, 10, WITH(features, NAN));
    assert_false(s.last.fired);
    json_t *bare = json_pack("{s:i, s:{s:f}}", "step", 20, "reward", "tuned", 1.0); /* of an older version */
    stop_rules_judge(&s, bare);
    assert_false(s.last.fired);
    json_decref(bare);
}

static void test_what_is_kept(void **state) {
    (void)state;
    StopRules s = rules_of("diversity_below=0.7,saturation_above=1.5");
    assert_true(judge(&s, 0, fine));
    assert_true(judge(&s, 5, WITH(reward, 1.5)));
    assert_false(judge(&s, 10, WITH(reward, 1.2)));
    assert_true(judge(&s, 15, WITH(reward, 1.5))); /* of equals, the later */
    assert_false(judge(&s, 20, WITH(reward, NAN)));
    Numbers both = {9, 0.8, 0.5, 1, 2, 1, 0.1};
    assert_false(judge(&s, 25, both)); /* the highest reward, but at a price */
    assert_int_equal(s.kept, 15);
    assert_true(s.kept_reward == 1.5);
    assert_string_equal(s.last.rules, "diversity_below=0.7, saturation_above=1.5");
    assert_non_null(strstr(s.last.why, "far apart as the base's; pictures are 2 times"));
    json_t *stop = stop_rules_json(&s);
    assert_int_equal(json_integer_value(json_object_get(stop, "kept")), 15);
    assert_true(json_real_value(json_object_get(stop, "value")) == 0.5);
    json_decref(stop);
    s = rules_of("distance_above=0.05"); /* broken before the first update: nothing to keep */
    assert_false(judge(&s, 0, fine));
    assert_true(s.last.fired && s.kept == -1);
    s = rules_of("distance_above=0.5"); /* nobody could score: better than nothing, worse than anything */
    assert_true(judge(&s, 0, WITH(reward, NAN)));
    assert_true(judge(&s, 5, WITH(reward, -7)));
}

/* An evaluation of which no record keeps more than 15 digits. */
static Numbers evaluation(int i) {
    return (Numbers){sin(i) + i / 10.0, 0.8 + cos(i) / 30, 1 - i / 50.0, 1, 1 + i / 70.0, 1, i / 30.0};
}

static void test_replay(void **state) {
    (void)state;
    const char *text = "heldout_drop=0.08,diversity_below=0.6,reward_plateau=7";
    Error err = {0};
    char folder[512];
    JsonlWriter w;
    const char *path = in_dir(fresh_dir("stop_rules", folder), "eval.jsonl");
    assert_ok(jsonl_open(&w, path, 0, &err), err);
    StopRules live = rules_of(text);
    for (int i = 0; i < 30 && !live.last.fired; i++) {
        json_t *line = line_of(10 * i, evaluation(i));
        stop_rules_judge(&live, line);
        assert_ok(jsonl_write(&w, line, &err), err);
        json_decref(line);
        StopRules again = rules_of(text);
        assert_ok(stop_rules_replay(&again, path, live.kept, 10 * i, &err), err);
        assert_memory_equal(again.best_heldout, live.best_heldout, (size_t)live.heldouts * sizeof(double));
        assert_true(again.kept == live.kept && again.best_step == live.best_step && again.step == live.step);
        assert_true(again.since_best == live.since_best && again.best_reward == live.best_reward);
        assert_true(again.last.fired == live.last.fired && again.last.value == live.last.value);
        assert_string_equal(again.last.why, live.last.why);
    }
    assert_true(live.last.fired && live.step > 20);
    jsonl_close(&w);

    /* under other rules: an adapter that is not there is never kept */
    StopRules other = rules_of("diversity_below=0.01");
    assert_ok(stop_rules_replay(&other, path, -1, live.step, &err), err);
    assert_true(other.kept == live.step && !other.last.fired);
    other = rules_of("distance_above=0.001"); /* the kept one broke it, and so did the last */
    assert_ok(stop_rules_replay(&other, path, live.step - 10, live.step, &err), err);
    assert_true(other.last.fired && other.kept == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parsing),      cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_each_rule),    cmocka_unit_test(test_drop_from_the_best),
                                       cmocka_unit_test(test_what_is_kept), cmocka_unit_test(test_replay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
