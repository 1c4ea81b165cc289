/* Prompt files and UTF-8. */
#include "check.h"

#include "format/prompts.h"
#include "format/utf8.h"

static void text_files(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    Arena *a = arena_new();
    PromptList list;
    const char *path = in_dir(fresh_dir("prompts", dir), "a.txt");
    put_text(path, "\xef\xbb\xbf a red circle \r\n\n   \ntwo gr\xc3\xbcn cubes\t\nlast without newline");
    assert_ok(prompts_read(path, a, &list, &err), err);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.items[0].text, "a red circle");
    assert_string_equal(list.items[1].text, "two gr\xc3\xbcn cubes");
    assert_string_equal(list.items[2].text, "last without newline");
    assert_null(list.items[0].tag);
    assert_null(list.items[0].metadata);
    arena_free(a);
}

static void json_files(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    Arena *a = arena_new();
    PromptList list;
    const char *path = in_dir(fresh_dir("prompts_json", dir), "a.jsonl");
    const char *first = "{\"tag\": \"counting\", \"prompt\": \"three \\\"big\\\" cubes\", \"include\": [{\"n\": 3}]}";
    char text[512];
    snprintf(text, sizeof text, "%s\n\n{\"prompt\": \"plain\", \"tag\": null}\r\n", first);
    put_text(path, text);
    assert_ok(prompts_read(path, a, &list, &err), err);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].text, "three \"big\" cubes");
    assert_string_equal(list.items[0].tag, "counting");
    assert_string_equal(list.items[0].metadata, first);
    assert_string_equal(list.items[1].text, "plain");
    assert_null(list.items[1].tag);
    assert_string_equal(list.items[1].metadata, "{\"prompt\": \"plain\", \"tag\": null}");
    arena_free(a);
}

static void shipped_prompts_are_readable(void **state) {
    (void)state;
    Error err = {0};
    Arena *a = arena_new();
    PromptList list;
    assert_ok(prompts_read(SOURCE_DIR "/assets/prompts/train.jsonl", a, &list, &err), err);
    assert_true(list.count > 10);
    for (size_t i = 0; i < list.count; i++) assert_true(list.items[i].text[0] && list.items[i].metadata);
    arena_free(a);
}

static void mistakes_are_told_with_their_line(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"a.txt", "", "a.txt: holds no prompt"},
        {"a.txt", " \n\n\t\n", "a.txt: holds no prompt"},
        {"a.txt", "one\ntwo\nJ\xf6rg\n", "a.txt:3: not UTF-8"},
        {"a.jsonl", "{\"prompt\": \"x\"}\n{\"text\": \"y\"}\n", "a.jsonl:2: no text under the key \"prompt\""},
        {"a.jsonl", "{\"prompt\": 3}\n", "a.jsonl:1: no text"},
        {"a.jsonl", "\n[1]\n", "a.jsonl:2: no text"},
        {"a.jsonl", "{\"prompt\": \"x\"}\n{\"prompt\": \n", "a.jsonl:2: column"},
        {"a.jsonl", "{\"prompt\": \"x\", \"tag\": 4}\n", "a.jsonl:1: the key \"tag\""},
    };
    char dir[512];
    fresh_dir("prompts_bad", dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        Arena *a = arena_new();
        PromptList list;
        put_text(in_dir(dir, cases[i].name), cases[i].text);
        assert_fails(prompts_read(in_dir(dir, cases[i].name), a, &list, &err), DRPO_E_INPUT, cases[i].message, err);
        arena_free(a);
    }
    Error err = {0};
    Arena *a = arena_new();
    PromptList list;
    put_file(in_dir(dir, "zero.txt"), "a\nb\0c\n", 6);
    assert_fails(prompts_read(in_dir(dir, "zero.txt"), a, &list, &err), DRPO_E_INPUT, "zero.txt:2: holds a zero", err);
    assert_fails(prompts_read(in_dir(dir, "none.txt"), a, &list, &err), DRPO_E_INPUT, "none.txt: cannot open", err);
    arena_free(a);
}

static void utf8_borders(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"abc", 3},
        {"\xc2\x80\xdf\xbf", 4},
        {"\xe0\xa0\x80\xef\xbf\xbf", 6},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8},
        {"a\x80", 1},             /* continuation first */
        {"a\xc1\xbf", 1},         /* overlong */
        {"a\xe0\x9f\xbf", 1},     /* overlong */
        {"a\xf0\x8f\xbf\xbf", 1}, /* overlong */
        {"a\xed\xa0\x80", 1},     /* surrogate */
        {"a\xf4\x90\x80\x80", 1}, /* beyond the last character */
        {"a\xf5\x80\x80\x80", 1},
        {"a\xe2\x82", 1}, /* cut off */
        {"a\xe2\x28\xa1", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_valid_prefix(cases[i].text, strlen(cases[i].text)), cases[i].valid);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_files),
        cmocka_unit_test(json_files),
        cmocka_unit_test(shipped_prompts_are_readable),
        cmocka_unit_test(mistakes_are_told_with_their_line),
        cmocka_unit_test(utf8_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
