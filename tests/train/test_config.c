/* The config table: parsing, aliases, checks, YAML round trip, help, the prompt order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/config.h"
#include "train/config_value.h"
#include "train/prompt_order.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

enum { MAX_ARGS = 8 };

typedef struct ParseCase {
    drpo_verb verb;
    const char *args[MAX_ARGS];
    OptionId id;
    const char *expected;
} ParseCase;

static int count_args(const char *const *args) {
    int n = 0;
    while (n < MAX_ARGS && args[n]) n++;
    return n;
}

static void test_values(void **state) {
    (void)state;
    static const ParseCase cases[] = {
        {DRPO_TRAIN, {NULL}, OPT_STEPS, "100"},
        {DRPO_TRAIN, {"--steps", "40"}, OPT_STEPS, "40"},
        {DRPO_TRAIN, {"--steps=41"}, OPT_STEPS, "41"},
        {DRPO_TRAIN, {"--steps", "1", "--steps", "2"}, OPT_STEPS, "2"},
        {DRPO_TRAIN, {"--max_train_steps", "7"}, OPT_STEPS, "7"},
        {DRPO_TRAIN, {"--max-train-steps", "7"}, OPT_STEPS, "7"},
        {DRPO_TRAIN, {"--batchsize_gen=24"}, OPT_CANDIDATES, "24"},
        {DRPO_TRAIN, {"--num_pos_images", "8"}, OPT_POSITIVES, "8"},
        {DRPO_TRAIN, {"--learning_rate=1e-5"}, OPT_LR, "1e-5"},
        {DRPO_TRAIN, {"--lr_scheduler", "constant_with_warmup"}, OPT_LR_SCHEDULE, "constant"},
        {DRPO_TRAIN, {"--drifting-kernel", "gaussian"}, OPT_KERNEL, "rbf"},
        {DRPO_TRAIN, {"--mixed_precision", "no"}, OPT_DTYPE, "f32"},
        {DRPO_TRAIN, {"--mask-reference"}, OPT_MASK_REFERENCE, "true"},
        {DRPO_TRAIN, {"--mask_reference", "--no-mask-reference"}, OPT_MASK_REFERENCE, "false"},
        {DRPO_TRAIN, {"--mask-reference=no"}, OPT_MASK_REFERENCE, "false"},
        {DRPO_TRAIN, {"--radii", "0.1,0.3"}, OPT_RADII, "0.1,0.3"},
        {DRPO_TRAIN, {"--reward", "scene@2", "--reward", "exec:a,b c"}, OPT_REWARD, "scene@2,exec:a,b c"},
        {DRPO_TRAIN, {"--lora-targets", "to_q, to_v"}, OPT_LORA_TARGETS, "to_q,to_v"},
        {DRPO_TRAIN, {"--memory-budget", "2GiB"}, OPT_MEMORY_BUDGET, "2GiB"},
        {DRPO_EVAL, {NULL}, OPT_EVAL_FILE, "prompts/test.jsonl"},
        {DRPO_SAMPLE, {"-p", "a cat"}, OPT_PROMPT, "a cat"},
        {DRPO_SCORE, {"--reward", "scene", "a.png", "--", "--b.png"}, OPT_IMAGES, "a.png,--b.png"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config *c = config_new(cases[i].verb);
        Error err = {0};
        assert_non_null(c);
        assert_int_equal(config_parse(c, count_args(cases[i].args), cases[i].args, &err), 0);
        assert_string_equal(config_text(c, cases[i].id), cases[i].expected);
        config_free(c);
    }
}

typedef struct BadCase {
    drpo_verb verb;
    const char *args[MAX_ARGS];
    const char *words; /* in the message */
} BadCase;

static void test_refused(void **state) {
    (void)state;
    static const BadCase cases[] = {
        {DRPO_TRAIN, {"--stepz", "4"}, "did you mean --steps?"},
        {DRPO_TRAIN, {"--learning_rat=4"}, "did you mean --learning_rate?"},
        {DRPO_TRAIN, {"--frobnicate"}, "unknown option --frobnicate"},
        {DRPO_TRAIN, {"--manifest", "x"}, "belongs to 'drpo score'"},
        {DRPO_TRAIN, {"--steps", "many"}, "--steps: 'many' is not a whole number"},
        {DRPO_TRAIN, {"--steps", "4.5"}, "'4.5' is not a whole number"},
        {DRPO_TRAIN, {"--steps", "0"}, "from 1 to"},
        {DRPO_TRAIN, {"--steps", "99999999999999999999"}, "not a whole number"},
        {DRPO_TRAIN, {"--lr", "nan"}, "not a number"},
        {DRPO_TRAIN, {"--lr", "0"}, "above 0"},
        {DRPO_TRAIN, {"--lr"}, "--lr needs a value"},
        {DRPO_TRAIN, {"--lr", "--steps"}, "--lr needs a value"},
        {DRPO_TRAIN, {"--kernel", "linear"}, "not one of laplacian, rbf, cosine"},
        {DRPO_TRAIN, {"--radii", "0.1,x"}, "'x' is not a number"},
        {DRPO_TRAIN, {"--memory-budget", "2Q"}, "not a size"},
        {DRPO_TRAIN, {"--mask-reference=maybe"}, "not true or false"},
        {DRPO_TRAIN, {"prompts.txt"}, "takes no arguments"},
        {DRPO_TRAIN, {"--=3"}, "is not an option"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config *c = config_new(cases[i].verb);
        Error err = {0};
        assert_int_equal(config_parse(c, count_args(cases[i].args), cases[i].args, &err), DRPO_E_USAGE);
        if (!strstr(err.text, cases[i].words)) fail_msg("case %zu: '%s' lacks '%s'", i, err.text, cases[i].words);
        assert_null(strchr(err.text, '\n'));
        config_free(c);
    }
}

static void test_checks(void **state) {
    (void)state;
    static const BadCase cases[] = {
        {DRPO_TRAIN, {"--candidates", "7"}, "--candidates 7 is fewer than --positives 4 plus --negatives 4"},
        {DRPO_TRAIN, {"--w-pos", "0", "--w-neg", "0"}, "both 0"},
        {DRPO_TRAIN, {"--radii", "1,2,3,4,5,6,7,8,9"}, "there must be 1 to 8"},
        {DRPO_TRAIN, {"--resume", "latest"}, "needs --out"},
        {DRPO_TRAIN, {"--resume", "latest", "--out", "x", "--overwrite"}, "give one of them"},
        {DRPO_TRAIN, {"--prompt-order", "random"}, "is not shuffle, file or tags"},
        {DRPO_TRAIN, {"--prompt-order", "tags:a=x"}, "is not TAG=WEIGHT"},
        {DRPO_TRAIN, {"--prompt-order", "tags:a=0"}, "above 0"},
        {DRPO_TRAIN, {"--noise", "/nowhere/noise.safetensors"}, "no such file"},
        {DRPO_TRAIN, {"--method", "vggflow", "--spread-weight"}, "--spread-weight has no part in --method vggflow"},
        {DRPO_TRAIN, {"--pools", "--min-spread", "0.1"}, "--min-spread 0.1 is for rankings"},
        {DRPO_SAMPLE, {NULL}, "give --prompt"},
        {DRPO_SCORE, {"--reward", "scene"}, "nothing to score"},
        {DRPO_EXPORT, {"a", "b"}, "takes one RUN|LORA, not 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config *c = config_new(cases[i].verb);
        Error err = {0};
        assert_int_equal(config_parse(c, count_args(cases[i].args), cases[i].args, &err), 0);
        int code = config_check(c, &err);
        assert_true(code == DRPO_E_USAGE || code == DRPO_E_INPUT);
        if (!strstr(err.text, cases[i].words)) fail_msg("case %zu: '%s' lacks '%s'", i, err.text, cases[i].words);
        config_free(c);
    }
}

static void test_sources(void **state) {
    (void)state;
    Config *c = config_new(DRPO_TRAIN);
    Error err = {0};
    assert_int_equal(config_set(c, "reward", "scene", SOURCE_FLAG, &err), 0);
    assert_int_equal(config_set(c, "reward", "exec:a", SOURCE_FILE, &err), 0);
    assert_string_equal(config_text(c, OPT_REWARD), "scene");
    assert_int_equal(config_set(c, "steps", "5", SOURCE_FILE, &err), 0);
    assert_int_equal(config_set(c, "steps", "6", SOURCE_RUN, &err), 0);
    assert_int_equal(config_int(c, OPT_STEPS), 5);
    assert_int_equal(config_set(c, "steps", "7", SOURCE_FLAG, &err), 0);
    assert_int_equal(config_int(c, OPT_STEPS), 7);
    config_free(c);
}

/* No verb may know one name twice, and every default must pass its own check. */
static void test_table(void **state) {
    (void)state;
    for (int verb = 0; verb < DRPO_VERBS; verb++) {
        Config *c = config_new((drpo_verb)verb);
        assert_non_null(c);
        config_free(c);
        for (int a = 0; a < OPT_COUNT; a++) {
            const OptionInfo *info = option_info((OptionId)a);
            if (!(info->verbs & 1u << verb) || info->type == OPTION_FILES) continue;
            char words[512], *rest = NULL;
            snprintf(words, sizeof words, "%s %s", info->key, info->aliases);
            for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
                for (int b = a + 1; b < OPT_COUNT; b++)
                    if ((option_info((OptionId)b)->verbs & 1u << verb) &&
                        option_answers_to(option_info((OptionId)b), word))
                        fail_msg("%s: --%s is also --%s", verb_name((drpo_verb)verb), word,
                                 option_info((OptionId)b)->key);
        }
    }
}

static void test_yaml_round_trip(void **state) {
    (void)state;
    static const char *const args[] = {"--reward",         "exec:python3 a.py --x 'y'@0.5",
                                       "--reward",         "scene",
                                       "--radii",          "0.1,0.2",
                                       "--mask-reference", "--prompt-order",
                                       "tags:a=1,b=2"};
    char hash[65], again[65];
    Error err = {0};
    Config *c = config_new(DRPO_TRAIN), *d = config_new(DRPO_TRAIN);
    assert_int_equal(dir_make(TEST_TMP, &err), 0);
    assert_int_equal(config_parse(c, sizeof args / sizeof *args, args, &err), 0);
    assert_int_equal(config_write(c, TEST_TMP "/config.yaml", &err), 0);
    assert_int_equal(config_load(d, TEST_TMP "/config.yaml", SOURCE_FILE, &err), 0);
    for (int id = 0; id < OPT_COUNT; id++)
        if (config_has(c, (OptionId)id))
            assert_string_equal(config_text(c, (OptionId)id), config_text(d, (OptionId)id));
    config_hash(c, hash);
    config_hash(d, again);
    assert_string_equal(hash, again);
    assert_int_equal(config_set(d, "lr", "0.5", SOURCE_FLAG, &err), 0);
    config_hash(d, again);
    assert_string_not_equal(hash, again);
    config_free(d);
    d = config_new(DRPO_TRAIN); /* only what differs from the defaults counts, so that new options change no hash */
    assert_non_null(d);
    config_hash(d, hash);
    sha256_hex("", 0, again);
    assert_string_equal(hash, again);
    assert_int_equal(config_set(d, "lr", config_text(d, OPT_LR), SOURCE_FLAG, &err), 0);
    config_hash(d, hash);
    assert_string_equal(hash, again);
    config_free(c);
    config_free(d);
}

static void test_yaml_mistakes(void **state) {
    (void)state;
    Error err = {0};
    Config *c = config_new(DRPO_TRAIN);
    static const char text[] = "lr: 0.1\nstepz: 4\n";
    assert_int_equal(dir_make(TEST_TMP, &err), 0);
    assert_int_equal(file_write_atomic(TEST_TMP "/bad.yaml", text, sizeof text - 1, &err), 0);
    assert_int_equal(config_set(c, "config", TEST_TMP "/bad.yaml", SOURCE_FLAG, &err), 0);
    assert_true(config_resolve(c, &err) < 0);
    assert_non_null(strstr(err.text, "bad.yaml:2"));
    assert_non_null(strstr(err.text, "did you mean --steps?"));
    config_free(c);
}

static void test_command(void **state) {
    (void)state;
    static const char *const args[] = {"--reward", "exec:sh -c 'x'", "--steps=3", "--mask-reference", "--no-dry-run"};
    Arena *a = arena_new();
    Config *c = config_new(DRPO_TRAIN);
    Error err = {0};
    assert_int_equal(config_parse(c, sizeof args / sizeof *args, args, &err), 0);
    assert_string_equal(config_command(c, a),
                        "drpo train --reward 'exec:sh -c '\\''x'\\''' --steps 3 --mask-reference --no-dry-run");
    config_free(c);
    arena_free(a);
}

static void test_help(void **state) {
    (void)state;
    for (int verb = 0; verb < DRPO_VERBS; verb++) {
        char *text = config_help((drpo_verb)verb, "drpo");
        assert_non_null(text);
        for (int id = 0; id < OPT_COUNT; id++)
            if (option_info((OptionId)id)->verbs & 1u << verb)
                assert_non_null(strstr(text, option_info((OptionId)id)->key));
        free(text);
    }
}

/* docs/flags.md is what the table says. */
static void test_reference(void **state) {
    (void)state;
    Arena *a = arena_new();
    Error err = {0};
    char *reference = config_reference(), *text = NULL;
    size_t size;
    assert_int_equal(file_read_text(SOURCE_DIR "/docs/flags.md", 1 << 20, a, &text, &size, &err), 0);
    if (strcmp(text, reference) != 0) fail_msg("docs/flags.md is out of date: drpo --reference > docs/flags.md");
    free(reference);
    arena_free(a);
}

static PromptList list_of(Prompt *items, size_t n) { return (PromptList){items, n}; }

static void test_order_shuffle(void **state) {
    (void)state;
    enum { N = 10, PER = 4 };
    Prompt items[N] = {0};
    PromptList list = list_of(items, N);
    PromptOrder *o, *again;
    Error err = {0};
    assert_int_equal(prompt_order_new("shuffle", 7, &list, &o, &err), 0);
    assert_int_equal(prompt_order_new("shuffle", 7, &list, &again, &err), 0);
    int seen[N] = {0};
    size_t first[2 * N], index[PER];
    for (int step = 0; step < 5; step++) {
        prompt_order_pick(o, step, PER, index);
        for (int i = 0; i < PER; i++) first[step * PER + i] = index[i];
    }
    for (int i = 0; i < 2 * N; i++) seen[first[i]]++;
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 2); /* two whole epochs */
    assert_true(memcmp(first, first + N, N * sizeof *first) != 0);
    for (int step = 4; step >= 0; step--) { /* any update, asked for in any order */
        prompt_order_pick(again, step, PER, index);
        assert_memory_equal(index, first + step * PER, sizeof index);
    }
    prompt_order_free(o);
    prompt_order_free(again);
}

static void test_order_tags(void **state) {
    (void)state;
    Prompt items[4] = {{.tag = "a"}, {.tag = "b"}, {.tag = "b"}, {.tag = "c"}};
    PromptList list = list_of(items, 4);
    PromptOrder *o;
    Error err = {0};
    assert_int_equal(prompt_order_new("tags:a=1,b=3", 1, &list, &o, &err), 0);
    int seen[4] = {0};
    for (int step = 0; step < 1000; step++) {
        size_t index[8];
        prompt_order_pick(o, step, 8, index);
        for (int i = 0; i < 8; i++) seen[index[i]]++;
    }
    assert_in_range(seen[0], 1800, 2200);
    assert_in_range(seen[1], 2700, 3300);
    assert_in_range(seen[2], 2700, 3300);
    assert_int_equal(seen[3], 0);
    prompt_order_free(o);
    assert_int_equal(prompt_order_new("tags:z=1", 1, &list, &o, &err), DRPO_E_INPUT);
    assert_non_null(strstr(err.text, "no prompt has the tag 'z'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_checks),        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_table),         cmocka_unit_test(test_yaml_round_trip),
        cmocka_unit_test(test_yaml_mistakes), cmocka_unit_test(test_command),
        cmocka_unit_test(test_help),          cmocka_unit_test(test_reference),
        cmocka_unit_test(test_order_shuffle), cmocka_unit_test(test_order_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
