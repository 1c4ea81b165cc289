/* JSON files and JSON lines. */
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "format/json.h"
#include "format/jsonl.h"

static json_t *parsed(const char *text) {
    Error err = {0};
    json_t *value;
    assert_ok(json_load_text("test", text, strlen(text), &value, &err), err);
    return value;
}

static void typed_getters(void **state) {
    (void)state;
    Error err = {0};
    json_t *root = parsed("{\"i\": 3, \"x\": 2.5, \"t\": true, \"s\": \"text\", \"none\": null, \"li\": [1, 2, 3],"
                          "\"ls\": [\"a\", \"b\"], \"lx\": [1, 0.5]}");
    JsonReader r = {root, "config.json", &err};
    int64_t ints[4];
    double numbers[4];
    const char *texts[4];
    assert_int_equal(json_get_int(&r, "i", 9), 3);
    assert_int_equal(json_get_int(&r, "none", 9), 9);
    assert_int_equal(json_get_int(&r, "missing", 9), 9);
    assert_true(json_get_number(&r, "x", 0) == 2.5 && json_get_number(&r, "i", 0) == 3);
    assert_true(json_get_bool(&r, "t", false));
    assert_string_equal(json_get_string(&r, "s", "?"), "text");
    assert_string_equal(json_get_string(&r, "missing", "?"), "?");
    assert_int_equal(json_get_ints(&r, "li", ints, 4), 3);
    assert_int_equal(ints[2], 3);
    assert_int_equal(json_get_ints(&r, "i", ints, 4), 1); /* one value is a list of one */
    assert_int_equal(ints[0], 3);
    assert_int_equal(json_get_ints(&r, "missing", ints, 4), 0);
    assert_int_equal(json_get_numbers(&r, "lx", numbers, 4), 2);
    assert_true(numbers[1] == 0.5);
    assert_int_equal(json_get_strings(&r, "ls", texts, 4), 2);
    assert_string_equal(texts[1], "b");
    assert_true(json_has(&r, "i") && !json_has(&r, "none"));
    json_require(&r, "i");
    assert_int_equal(json_finish(&r), 0);

    json_get_int(&r, "x", 0);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "config.json: key \"x\" must be an integer", err);
    json_get_bool(&r, "i", false);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "true or false", err);
    json_get_string(&r, "i", NULL);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "a text", err);
    json_get_number(&r, "s", 0);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "a number", err);
    assert_int_equal(json_get_ints(&r, "li", ints, 2), 0);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "3 entries, at most 2", err);
    assert_int_equal(json_get_ints(&r, "lx", ints, 4), 0);
    assert_fails(json_finish(&r), DRPO_E_INPUT, "list of integers", err);
    json_require(&r, "missing");
    assert_fails(json_finish(&r), DRPO_E_INPUT, "\"missing\" is missing", err);
    json_decref(root);
}

static void files_are_loaded_with_line_numbers(void **state) {
    (void)state;
    Error err = {0};
    json_t *value;
    char dir[512];
    const char *path = in_dir(fresh_dir("json", dir), "a.json");
    put_text(path, "{\n \"a\": 1,\n \"b\" 2}");
    assert_fails(json_load_path(path, &value, &err), DRPO_E_INPUT, "a.json: line 3, column 6: not valid JSON", err);
    put_text(path, "{\"a\": 1, \"a\": 2}");
    assert_fails(json_load_path(path, &value, &err), DRPO_E_INPUT, "duplicate", err);
    put_text(path, "{} x");
    assert_fails(json_load_path(path, &value, &err), DRPO_E_INPUT, "line 1", err);
    put_text(path, "7");
    assert_fails(json_load_path(path, &value, &err), DRPO_E_INPUT, "neither", err);
    put_text(path, "");
    assert_fails(json_load_path(path, &value, &err), DRPO_E_INPUT, "empty", err);
    json_t *root = json_pack("{s:f, s:s}", "x", 0.1, "name", "gr\xc3\xbcn");
    assert_ok(json_save_path(path, root, &err), err);
    assert_ok(json_load_path(path, &value, &err), err);
    assert_true(json_equal(root, value)); /* doubles come back exactly */
    json_decref(root);
    json_decref(value);
}

typedef struct Seen {
    int count, last_line, stop_at;
    json_int_t sum;
} Seen;

static int collect(void *user, const json_t *value, const char *text, int line, Error *err) {
    Seen *seen = user;
    assert_true(text[0] == '{');
    seen->count++;
    seen->last_line = line;
    seen->sum += json_integer_value(json_object_get(value, "step"));
    return line == seen->stop_at ? fail(err, DRPO_E_INPUT, "enough") : 0;
}

static void write_steps(JsonlWriter *w, int from, int to) {
    Error err = {0};
    for (int i = from; i <= to; i++) {
        json_t *line = json_pack("{s:i}", "step", i);
        assert_ok(jsonl_write(w, line, &err), err);
        json_decref(line);
    }
}

static void lines_are_appended_and_cut_for_a_resume(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("jsonl", dir), "a.jsonl");
    JsonlWriter w;
    assert_ok(jsonl_open(&w, path, -1, &err), err);
    write_steps(&w, 1, 3);
    assert_ok(jsonl_sync(&w, &err), err);
    long long checkpoint = w.offset;
    write_steps(&w, 4, 5);
    jsonl_close(&w);
    jsonl_close(&w);
    Seen seen = {0};
    assert_ok(jsonl_read(path, collect, &seen, &err), err);
    assert_int_equal(seen.sum, 15);

    assert_ok(jsonl_open(&w, path, checkpoint, &err), err);
    write_steps(&w, 40, 40);
    jsonl_close(&w);
    seen = (Seen){0};
    assert_ok(jsonl_read(path, collect, &seen, &err), err);
    assert_int_equal(seen.sum, 46);
    assert_int_equal(seen.last_line, 4);
    assert_fails(jsonl_open(&w, path, 100000, &err), DRPO_E_INPUT, "cut or replaced", err);
    assert_fails(jsonl_write_text(&w, "{}", &err), DRPO_E_INTERNAL, "closed", err);

    FILE *f = fopen(path, "ab"); /* a run that was killed within a line */
    fputs("{\"step\": 5", f);
    fclose(f);
    assert_ok(jsonl_open(&w, path, -1, &err), err);
    write_steps(&w, 100, 100);
    assert_fails(jsonl_write_text(&w, "{}\n{}", &err), DRPO_E_INTERNAL, "newline", err);
    jsonl_close(&w);
    seen = (Seen){0};
    assert_ok(jsonl_read(path, collect, &seen, &err), err);
    assert_int_equal(seen.sum, 146);
}

static void a_line_that_does_not_fit_leaves_no_part(void **state) {
    (void)state;
    Error err = {0};
    char dir[512], line[3000];
    const char *path = in_dir(fresh_dir("jsonl_full", dir), "a.jsonl");
    snprintf(line, sizeof line, "{\"step\": 1, \"text\": \"%02900d\"}", 7);
    JsonlWriter w;
    assert_ok(jsonl_open(&w, path, -1, &err), err);
    assert_ok(jsonl_write_text(&w, line, &err), err);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = jsonl_write_text(&w, line, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_fails(code, DRPO_E_IO, "cannot write", err);
    assert_ok(jsonl_write_text(&w, "{\"step\": 5}", &err), err); /* room again */
    jsonl_close(&w);
    Seen seen = {0};
    assert_ok(jsonl_read(path, collect, &seen, &err), err);
    assert_int_equal(seen.sum, 6);
}

static void readers_name_the_line(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("jsonl_bad", dir), "a.jsonl");
    Seen seen = {0};
    put_text(path, "{\"step\":1}\r\n\n  \n{\"step\":2}");
    assert_ok(jsonl_read(path, collect, &seen, &err), err);
    assert_int_equal(seen.sum, 3);
    assert_int_equal(seen.last_line, 4);
    put_text(path, "{\"step\":1}\n\n{\"step\":\n");
    assert_fails(jsonl_read(path, collect, &seen, &err), DRPO_E_INPUT, "a.jsonl:3: column", err);
    put_text(path, "{}\n{}\n{}\n");
    seen = (Seen){.stop_at = 2};
    assert_fails(jsonl_read(path, collect, &seen, &err), DRPO_E_INPUT, "a.jsonl:2: enough", err);
    assert_int_equal(seen.count, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typed_getters),
        cmocka_unit_test(files_are_loaded_with_line_numbers),
        cmocka_unit_test(lines_are_appended_and_cut_for_a_resume),
        cmocka_unit_test(a_line_that_does_not_fit_leaves_no_part),
        cmocka_unit_test(readers_name_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
