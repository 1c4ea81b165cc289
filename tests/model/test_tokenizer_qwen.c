/* Qwen2's tokenizer against transformers, from vocab.json and merges.txt and from one tokenizer.json. */
#include <stdlib.h>

#include "check.h"
#include "format/json.h"
#include "model/tokenizer_qwen.h"

#define FOLDER SOURCE_DIR "/tests/golden/hpsv3"

static void check_text(const QwenTokenizer *t, const char *text, const json_t *ids) {
    Error err = {0};
    TokenIds got = {0};
    assert_ok(qwen_tokenizer_encode(t, text, &got, &err), err);
    for (size_t i = 0; i < got.n && i < json_array_size(ids); i++)
        if (got.id[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("'%s': id %zu is %d, not %d", text, i, got.id[i], (int)json_integer_value(json_array_get(ids, i)));
    if (got.n != json_array_size(ids)) fail_msg("'%s': %zu ids, not %zu", text, got.n, json_array_size(ids));
    free(got.id);
}

static int check_all(const QwenTokenizer *t) {
    Error err = {0};
    json_t *vectors, *row;
    size_t i;
    assert_ok(json_load_path(FOLDER "/vectors.json", &vectors, &err), err);
    json_array_foreach(vectors, i, row)
        check_text(t, json_string_value(json_object_get(row, "text")), json_object_get(row, "ids"));
    json_decref(vectors);
    return (int)i;
}

static void texts_get_the_ids_of_transformers(void **state) {
    (void)state;
    Error err = {0};
    QwenTokenizer *t;
    assert_ok(qwen_tokenizer_open(FOLDER, &t, &err), err);
    assert_true(check_all(t) >= 20);
    qwen_tokenizer_free(t);
}

static void added_tokens_follow_the_vocabulary(void **state) {
    (void)state;
    Error err = {0};
    QwenTokenizer *t;
    int32_t id, again;
    assert_ok(qwen_tokenizer_open(FOLDER, &t, &err), err);
    int size = qwen_tokenizer_size(t);
    assert_int_equal(qwen_tokenizer_find(t, "<|image_pad|>"), size - 1);
    assert_int_equal(qwen_tokenizer_find(t, "<|Reward|>"), -1);
    assert_ok(qwen_tokenizer_add(t, "<|Reward|>", &id, &err), err);
    assert_ok(qwen_tokenizer_add(t, "<|Reward|>", &again, &err), err);
    assert_int_equal(id, size);
    assert_int_equal(again, size);
    assert_int_equal(qwen_tokenizer_size(t), size + 1);
    TokenIds ids = {0};
    assert_ok(qwen_tokenizer_encode(t, "a<|Reward|>a", &ids, &err), err);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.id[1], size);
    free(ids.id);
    assert_fails(qwen_tokenizer_encode(t, "\xff", &ids, &err), DRPO_E_INPUT, "UTF-8", err);
    qwen_tokenizer_free(t);
}

/* The same vocabulary as one file; merges as pairs. */
static void one_file_gives_the_same(void **state) {
    (void)state;
    Error err = {0};
    char folder[512], line[256];
    fresh_dir("qwen_one_file", folder);
    json_t *vocab, *config, *merges = json_array(), *added = json_array(), *value;
    const char *key;
    assert_ok(json_load_path(FOLDER "/vocab.json", &vocab, &err), err);
    assert_ok(json_load_path(FOLDER "/tokenizer_config.json", &config, &err), err);
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, value) json_array_append_new(
        added, json_pack("{s:i, s:O}", "id", atoi(key), "content", json_object_get(value, "content")));
    FILE *f = fopen(FOLDER "/merges.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *space = strchr(line, ' ');
        if (strncmp(line, "#version", 8) == 0 || !space) continue;
        line[strcspn(line, "\n")] = 0;
        *space = 0;
        json_array_append_new(merges, json_pack("[s, s]", line, space + 1));
    }
    fclose(f);
    json_t *model =
        json_pack("{s:s, s:n, s:O, s:o}", "type", "BPE", "end_of_word_suffix", "vocab", vocab, "merges", merges);
    json_t *all = json_pack("{s:o, s:o}", "model", model, "added_tokens", added);
    assert_ok(json_save_path(in_dir(folder, "tokenizer.json"), all, &err), err);
    json_decref(all);
    json_decref(vocab);
    json_decref(config);
    QwenTokenizer *t;
    assert_ok(qwen_tokenizer_open(folder, &t, &err), err);
    check_all(t);
    qwen_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_get_the_ids_of_transformers),
                                       cmocka_unit_test(added_tokens_follow_the_vocabulary),
                                       cmocka_unit_test(one_file_gives_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
