/* Flat YAML: reading with line numbers, refusing what is not flat, and writing what reads back the same. */
#include "check.h"

#include "format/yaml.h"

typedef struct Read {
    int count;
    char key[64][64], value[64][128];
    int line[64];
} Read;

static int collect(void *user, const char *key, const char *value, int line, Error *err) {
    Read *r = user;
    if (strcmp(key, "refuse") == 0) return fail(err, DRPO_E_USAGE, "no such key '%s'", key);
    snprintf(r->key[r->count], sizeof *r->key, "%s", key);
    snprintf(r->value[r->count], sizeof *r->value, "%s", value);
    r->line[r->count++] = line;
    return 0;
}

static int read_text(const char *text, Read *r, Error *err) {
    *r = (Read){0};
    return yaml_read_text("run.yaml", text, strlen(text), collect, r, err);
}

static void entries_and_lists_are_read(void **state) {
    (void)state;
    Error err = {0};
    static Read r;
    assert_ok(read_text("# comment\nsteps: 40\nlr: 1e-4   # inline\n\nreward:\n  - 'exec:./a.py'\n  - \"b: c\"\n"
                        "sizes: [1, 2]\nnothing:\ntilde: ~\nquoted: \"null\"\nnull_value: null\nempty: []\n",
                        &r, &err),
              err);
    static const struct {
        const char *key, *value;
        int line;
    } expected[] = {{"steps", "40", 2},     {"lr", "1e-4", 3},     {"reward", "exec:./a.py", 6}, {"reward", "b: c", 7},
                    {"sizes", "1", 8},      {"sizes", "2", 8},     {"nothing", "", 9},           {"tilde", "", 10},
                    {"quoted", "null", 11}, {"null_value", "", 12}};
    assert_int_equal(r.count, 10);
    for (int i = 0; i < 10; i++) {
        assert_string_equal(r.key[i], expected[i].key);
        assert_string_equal(r.value[i], expected[i].value);
        if (r.value[i][0]) assert_int_equal(r.line[i], expected[i].line);
    }
    assert_ok(read_text("", &r, &err), err);
    assert_ok(read_text("# only a comment\n", &r, &err), err);
    assert_int_equal(r.count, 0);
}

static void what_is_not_flat_is_refused_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\nb:\n  c: 2\n", "run.yaml:3: 'b' holds a mapping"},
        {"a: [1, [2]]\n", "run.yaml:1: 'a' holds a list"},
        {"a: [1, {b: 2}]\n", "run.yaml:1: 'a' holds a mapping"},
        {"a: &x 1\nb: *x\n", "run.yaml:1: anchors are not supported"},
        {"a: 1\nb: *x\n", "run.yaml:2: 'b' holds an alias"},
        {"a: 1\nb: 2\na: 3\n", "run.yaml:3: 'a' is set a second time"},
        {"- a\n- b\n", "run.yaml:1: 'key: value' lines are needed"},
        {"word\n", "run.yaml:1: 'key: value' lines are needed"},
        {"a: 1\n---\nb: 2\n", "run.yaml:2: a second document"},
        {"? [a]\n: 1\n", "run.yaml:1: a key must be a plain word"},
        {"a: 1\nb: \"x\n", "not valid YAML"},
        {"a: 1\n\tb: 2\n", "run.yaml:2: not valid YAML"},
        {"a: 1\nb: \xff\n", "run.yaml:2: not UTF-8"},
        {"a: \"x\\0y\"\n", "run.yaml:1: the value of 'a' holds a zero"},
        {"a: 1\nrefuse: 2\n", "run.yaml:2: no such key 'refuse'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        static Read r;
        int code = read_text(cases[i].text, &r, &err);
        if (code >= 0) fail_msg("accepted: %s", cases[i].text);
        assert_fails(code, err.code, cases[i].message, err);
    }
}

static void written_values_come_back(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("yaml", dir), "config.yaml");
    static const char *values[] = {
        "40",
        "",
        "null",
        "~",
        "a: b",
        "- x",
        "# not a comment",
        "yes",
        " spaces ",
        "\"q\"",
        "it's",
        "line\nbreak",
        "*star",
        "&and",
        "{a: b}",
        "[x]",
        "%percent",
        "@at",
        "tab\tx",
        "gr\xc3\xbcn",
        "\\back",
        "trailing:",
        "a #b",
        "|",
        ">",
        "!tag",
        "`tick",
        "0x10",
        "1e-4",
        "-",
        "?",
        ",",
        "a prompt that is much longer than eighty characters so that a line folder would want to break it"};
    enum { N = sizeof values / sizeof *values };
    YamlItem items[N + 2];
    char keys[N][16];
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        items[i] = (YamlItem){keys[i], &values[i], 1, false};
    }
    items[N] = (YamlItem){"all", values, 20, true};
    items[N + 1] = (YamlItem){"none", NULL, 0, true};
    assert_ok(yaml_write(path, "made by a test\nsecond line", items, N + 2, &err), err);
    static Read r;
    r = (Read){0};
    assert_ok(yaml_read(path, collect, &r, &err), err);
    assert_int_equal(r.count, N + 20);
    for (int i = 0; i < N + 20; i++) {
        assert_string_equal(r.key[i], i < N ? keys[i] : "all");
        assert_string_equal(r.value[i], i < N ? values[i] : values[i - N]);
    }
    static const char *latin[] = {"J\xf6rg"};
    assert_fails(yaml_write(path, NULL, &(YamlItem){"name", latin, 1, false}, 1, &err), DRPO_E_INPUT,
                 "cannot be written", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_and_lists_are_read),
        cmocka_unit_test(what_is_not_flat_is_refused_with_its_line),
        cmocka_unit_test(written_values_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
