/* --dtype and --exact: what they choose on which processor, and how a run remembers it. */
#include "check.h"
#include "train/session.h"

static Config *config(drpo_verb verb, const char *key, const char *value) {
    Error err = {0};
    Config *c = config_new(verb);
    assert_non_null(c);
    if (key) assert_ok(config_set(c, key, value, SOURCE_FLAG, &err), err);
    return c;
}

static void only_amx_is_chosen_by_itself(void **state) {
    (void)state;
    Error err = {0};
    for (int unit = BF16_NONE; unit <= BF16_TILES; unit++) {
        Config *c = config(DRPO_SAMPLE, NULL, NULL);
        CpuOptions o = {0};
        assert_ok(session_arithmetic(c, (Bf16Unit)unit, &o, &err), err);
        assert_int_equal(o.bf16, unit == BF16_TILES);
        assert_false(o.exact);
        assert_ok(config_set(c, "dtype", "float32", SOURCE_FLAG, &err), err);
        assert_ok(session_arithmetic(c, (Bf16Unit)unit, &o, &err), err);
        assert_false(o.bf16);
        assert_ok(config_set(c, "dtype", "bfloat16", SOURCE_FLAG, &err), err);
        assert_ok(config_set(c, "exact", "yes", SOURCE_FLAG, &err), err);
        int code = session_arithmetic(c, (Bf16Unit)unit, &o, &err);
        assert_int_equal(code, unit == BF16_NONE ? DRPO_E_INPUT : 0);
        assert_true(o.bf16 && o.exact);
        config_free(c);
    }
    assert_non_null(strstr(err.text, "--dtype bf16"));
    assert_non_null(strstr(err.text, "--dtype f32"));
}

static void what_has_no_rounded_layers_refuses(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"backend", "ref"}, {"train", "full"}};
    for (int i = 0; i < 2; i++) {
        Error err = {0};
        CpuOptions o = {0};
        Config *c = config(DRPO_TRAIN, cases[i][0], cases[i][1]);
        assert_ok(session_arithmetic(c, BF16_TILES, &o, &err), err);
        assert_false(o.bf16);
        assert_ok(config_set(c, "dtype", "bf16", SOURCE_FLAG, &err), err);
        assert_int_equal(session_arithmetic(c, BF16_TILES, &o, &err), DRPO_E_USAGE);
        assert_non_null(strstr(err.text, cases[i][1]));
        config_free(c);
    }
}

static void expect_settled(Bf16Unit unit, ConfigSource source, const char *before, const char *after) {
    Error err = {0};
    Config *c = config_new(DRPO_TRAIN);
    assert_non_null(c);
    assert_ok(config_set(c, "dtype", before, source, &err), err);
    assert_ok(session_settle_dtype(c, unit, &err), err);
    assert_string_equal(config_text(c, OPT_DTYPE), after);
    config_free(c);
}

/* A run that began where auto is float32 goes on in float32 where it would be bf16. */
static void a_run_keeps_its_arithmetic(void **state) {
    (void)state;
    expect_settled(BF16_VECTORS, SOURCE_DEFAULT, "auto", "auto");
    expect_settled(BF16_TILES, SOURCE_DEFAULT, "auto", "bf16");
    expect_settled(BF16_TILES, SOURCE_FLAG, "auto", "bf16");
    expect_settled(BF16_TILES, SOURCE_RUN, "auto", "f32");
    expect_settled(BF16_TILES, SOURCE_RUN, "bf16", "bf16");
    expect_settled(BF16_TILES, SOURCE_FLAG, "f32", "f32");
    expect_settled(BF16_VECTORS, SOURCE_RUN, "bf16", "bf16");
}

/* bf16 identifies a run; f32 is what every run was before there was a choice. */
static void bfloat16_identifies_a_run(void **state) {
    (void)state;
    char hash[4][65];
    static const char *const dtypes[] = {"auto", "f32", "bf16"};
    for (int i = 0; i < 3; i++) {
        Config *c = config(DRPO_TRAIN, "dtype", dtypes[i]);
        config_hash(c, hash[i]);
        config_free(c);
    }
    Config *c = config(DRPO_TRAIN, "exact", "true");
    config_hash(c, hash[3]);
    config_free(c);
    assert_string_equal(hash[0], hash[1]);
    assert_string_not_equal(hash[0], hash[2]);
    assert_string_not_equal(hash[0], hash[3]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_amx_is_chosen_by_itself),
        cmocka_unit_test(what_has_no_rounded_layers_refuses),
        cmocka_unit_test(a_run_keeps_its_arithmetic),
        cmocka_unit_test(bfloat16_identifies_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
