/* The tokenizer against ids that transformers' CLIPTokenizer gave (tests/golden/tokenizer), and folders and prompts
 * that are wrong. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "model/tokenizer.h"

#define FOLDER SOURCE_DIR "/assets/tiny-turbo/tokenizer"
#define VECTORS SOURCE_DIR "/tests/golden/tokenizer/vectors.json"

static void copy_file(const char *folder, const char *name) {
    MappedFile file;
    Error err = {0};
    assert_ok(file_map(in_dir(FOLDER, name), &file, &err), err);
    put_file(in_dir(folder, name), file.data, file.size);
    file_unmap(&file);
}

/* A fresh folder with the shipped vocabulary and merges. */
static void make_folder(char folder[512], const char *name) {
    fresh_dir(name, folder);
    copy_file(folder, "vocab.json");
    copy_file(folder, "merges.txt");
}

static int check_case(const Tokenizer *t, const char *variant, const json_t *test) {
    const char *text = json_string_value(json_object_get(test, "text"));
    const json_t *want = json_object_get(test, "ids");
    int length = tokenizer_length(t), wrong = 0;
    int32_t ids[64];
    bool truncated;
    Error err = {0};
    assert_true(length <= 64);
    assert_int_equal((int)json_array_size(want), length);
    if (tokenizer_encode(t, text, ids, &truncated, &err) < 0) {
        print_error("%s, \"%s\": %s\n", variant, text, err.text);
        return 1;
    }
    for (int i = 0; i < length && !wrong; i++) {
        int expected = (int)json_integer_value(json_array_get(want, (size_t)i));
        if (ids[i] != expected) {
            print_error("%s, \"%s\": id %d is %d, expected %d\n", variant, text, i, ids[i], expected);
            wrong = 1;
        }
    }
    if (truncated != json_is_true(json_object_get(test, "truncated"))) {
        print_error("%s, \"%s\": truncated is %d\n", variant, text, truncated);
        wrong = 1;
    }
    return wrong;
}

static int check_variant(const json_t *variant) {
    const char *name = json_string_value(json_object_get(variant, "name")), *file;
    char folder[512] = FOLDER;
    json_t *content, *test;
    size_t i;
    if (json_object_size(json_object_get(variant, "files")) > 0) make_folder(folder, "tokenizer_variant");
    json_object_foreach(json_object_get(variant, "files"), file, content) {
        char *text = json_is_string(content) ? strdup(json_string_value(content)) : json_dumps(content, 0);
        put_text(in_dir(folder, file), text);
        free(text);
    }
    Tokenizer *t;
    Error err = {0};
    if (tokenizer_open(folder, &t, &err) < 0) fail_msg("%s: %s", name, err.text);
    int wrong = 0;
    json_array_foreach(json_object_get(variant, "cases"), i, test) wrong += check_case(t, name, test);
    assert_true(i > 20);
    tokenizer_free(t);
    return wrong;
}

static void test_vectors(void **state) {
    (void)state;
    json_t *root, *variant;
    Error err = {0};
    size_t i;
    int wrong = 0;
    assert_ok(json_load_path(VECTORS, &root, &err), err);
    json_array_foreach(json_object_get(root, "variants"), i, variant) wrong += check_variant(variant);
    assert_int_equal(i, 7);
    json_decref(root);
    assert_int_equal(wrong, 0);
}

static void test_sizes(void **state) {
    (void)state;
    Tokenizer *t;
    assert_int_equal(tokenizer_open(FOLDER, &t, NULL), 0);
    assert_int_equal(tokenizer_length(t), 32);
    assert_int_equal(tokenizer_vocab(t), 657);
    int32_t ids[32];
    assert_int_equal(tokenizer_encode(t, "a star", ids, NULL, NULL), 0);
    assert_int_equal(ids[0], 655);
    assert_int_equal(ids[3], 656);
    assert_int_equal(ids[31], 0);
    tokenizer_free(t);
}

static void test_invalid_utf8(void **state) {
    (void)state;
    static const char *const bad[] = {"a \xff star",      "\xc3", "caf\xe9", "\xed\xa0\x80", "\xc0\xaf",
                                      "\xf4\x90\x80\x80", "x\x80"};
    Tokenizer *t;
    assert_int_equal(tokenizer_open(FOLDER, &t, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t ids[32];
        Error err = {0};
        assert_int_equal(tokenizer_encode(t, bad[i], ids, NULL, &err), DRPO_E_INPUT);
        assert_non_null(strstr(err.text, "UTF-8"));
    }
    tokenizer_free(t);
}

/* A million letters must cost about as much as a million letters, and not its square. */
static void test_long_word(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE + 1);
    memset(text, 'a', SIZE);
    for (int i = 3; i < SIZE; i += 5) text[i] = 'r';
    text[SIZE] = 0;
    Tokenizer *t;
    int32_t ids[32];
    bool truncated = false;
    assert_int_equal(tokenizer_open(FOLDER, &t, NULL), 0);
    assert_int_equal(tokenizer_encode(t, text, ids, &truncated, NULL), 0);
    assert_true(truncated);
    assert_int_equal(ids[31], 656);
    tokenizer_free(t);
    free(text);
}

/* `name` of an otherwise good folder has this content; opening must fail and name the file and `word`. */
static void expect_refused(const char *name, const char *content, const char *word) {
    char folder[512];
    make_folder(folder, "tokenizer_bad");
    put_text(in_dir(folder, "tokenizer_config.json"), "{\"model_max_length\": 32}");
    put_text(in_dir(folder, name), content);
    Tokenizer *t = NULL;
    Error err = {0};
    assert_int_equal(tokenizer_open(folder, &t, &err), DRPO_E_INPUT);
    assert_null(t);
    if (!strstr(err.text, name) || !strstr(err.text, word))
        fail_msg("'%s' does not name %s and %s", err.text, name, word);
}

static void test_bad_folders(void **state) {
    (void)state;
    expect_refused("vocab.json", "[]", "vocabulary");
    expect_refused("vocab.json", "{}", "vocabulary");
    expect_refused("vocab.json", "{\"a\": \"b\"}", "'a'");
    expect_refused("vocab.json", "{\"a\": -1}", "'a'");
    expect_refused("vocab.json", "{\"a\": 1", "");
    expect_refused("merges.txt", "#version: 0.2\na r\nar\n", "line 3");
    expect_refused("merges.txt", "a r\nq q\n", "line 2");
    expect_refused("merges.txt", "a r x\n", "line 1");
    expect_refused("tokenizer_config.json", "{}", "model_max_length");
    expect_refused("tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656.0}",
                   "model_max_length");
    expect_refused("tokenizer_config.json", "{\"model_max_length\": 32, \"pad_token\": \"[PAD]\"}", "[PAD]");
    expect_refused("tokenizer_config.json", "{\"model_max_length\": 32, \"pad_token\": 7}", "pad_token");
    expect_refused("tokenizer_config.json",
                   "{\"model_max_length\": 32, \"pad_token\": {\"content\": \"!\", \"lstrip\": true}}", "lstrip");
    expect_refused(
        "tokenizer_config.json",
        "{\"model_max_length\": 32, \"added_tokens_decoder\": {\"5\": {\"content\": \"!\", \"normalized\": false}}}",
        "id 5");
    expect_refused("special_tokens_map.json", "{\"eos_token\": \"</s>\"}", "</s>");
}

static void test_missing_folder(void **state) {
    (void)state;
    Tokenizer *t = NULL;
    Error err = {0};
    assert_true(tokenizer_open(TEST_TMP "/no-such-folder", &t, &err) < 0);
    assert_null(t);
    assert_non_null(strstr(err.text, "no-such-folder/vocab.json"));
}

/* tokenizer.json of the shipped vocabulary and merges, these as pairs or as texts. */
static void write_one_file(const char *folder, bool pairs) {
    Error err = {0};
    json_t *vocab, *merges = json_array();
    Arena *arena = arena_new();
    char *text, *line;
    assert_ok(json_load_path(FOLDER "/vocab.json", &vocab, &err), err);
    assert_ok(file_read_text(FOLDER "/merges.txt", 1 << 20, arena, &text, NULL, &err), err);
    while ((line = strsep(&text, "\n"))) {
        char *space = strchr(line, ' ');
        if (!space || line[0] == '#') continue;
        if (pairs)
            json_array_append_new(merges, json_pack("[s%, s]", line, (size_t)(space - line), space + 1));
        else
            json_array_append_new(merges, json_string(line));
    }
    json_t *root = json_pack("{s: {s: s, s: s, s: o, s: o}}", "model", "type", "BPE", "end_of_word_suffix", "</w>",
                             "vocab", vocab, "merges", merges);
    assert_ok(json_save_path(in_dir(folder, "tokenizer.json"), root, &err), err);
    json_decref(root);
    arena_free(arena);
}

/* Newer versions of transformers write one file for both. */
static void test_one_file(void **state) {
    (void)state;
    static const char *const texts[] = {"a photo of a red star", "", "don't  STOP, it's caf\xc3\xa9 42!",
                                        "two blue squares and a green circle <|endoftext|> \xf0\x9f\x99\x82"};
    char folder[512];
    Error err = {0};
    Tokenizer *plain, *t;
    assert_ok(tokenizer_open(FOLDER, &plain, &err), err);
    for (int pairs = 0; pairs < 2; pairs++) {
        fresh_dir("tokenizer_one", folder);
        copy_file(folder, "tokenizer_config.json");
        write_one_file(folder, pairs);
        assert_ok(tokenizer_open(folder, &t, &err), err);
        assert_int_equal(tokenizer_vocab(t), tokenizer_vocab(plain));
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            int32_t ids[64], wanted[64];
            assert_ok(tokenizer_encode(t, texts[i], ids, NULL, &err), err);
            assert_ok(tokenizer_encode(plain, texts[i], wanted, NULL, &err), err);
            assert_memory_equal(ids, wanted, sizeof *ids * (size_t)tokenizer_length(t));
        }
        tokenizer_free(t);
    }
    tokenizer_free(plain);
    static const struct {
        const char *text, *word;
    } wrong[] = {{"{}", "no tokenizer of CLIP"},
                 {"{\"model\": {\"type\": \"Unigram\"}}", "no tokenizer of CLIP"},
                 {"{\"model\": {\"end_of_word_suffix\": \"</w>\"}}", "not a vocabulary"},
                 {"{\"model\": {\"end_of_word_suffix\": \"</w>\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}",
                  "merge 1 is no pair"},
                 {"{\"model\": {\"end_of_word_suffix\": \"</w>\", \"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}}",
                  "merge 1: 'aa'"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_text(in_dir(folder, "tokenizer.json"), wrong[i].text);
        assert_fails(tokenizer_open(folder, &t, &err), DRPO_E_INPUT, wrong[i].word, err);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),   cmocka_unit_test(test_sizes),       cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_long_word), cmocka_unit_test(test_bad_folders), cmocka_unit_test(test_missing_folder),
        cmocka_unit_test(test_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
