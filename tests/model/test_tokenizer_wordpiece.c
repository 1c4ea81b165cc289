/* BERT's tokenizer against transformers, and vocabularies that must be refused. */
#include <stdlib.h>

#include "check.h"
#include "format/json.h"
#include "model/tokenizer_wordpiece.h"

#define FOLDER SOURCE_DIR "/tests/golden/imagereward"

static void check_text(const WordPiece *w, const char *text, const json_t *ids) {
    Error err = {0};
    TokenIds got = {0};
    assert_ok(wordpiece_encode(w, text, 35, &got, &err), err);
    for (size_t i = 0; i < got.n && i < json_array_size(ids); i++)
        if (got.id[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("'%s': id %zu is %d, not %d", text, i, got.id[i], (int)json_integer_value(json_array_get(ids, i)));
    if (got.n != json_array_size(ids)) fail_msg("'%s': %zu ids, not %zu", text, got.n, json_array_size(ids));
    free(got.id);
}

static void texts_get_the_ids_of_transformers(void **state) {
    (void)state;
    Error err = {0};
    WordPiece *w;
    json_t *vectors, *row;
    size_t i;
    assert_ok(wordpiece_open(FOLDER "/vocab.txt", &w, &err), err);
    assert_ok(json_load_path(FOLDER "/vectors.json", &vectors, &err), err);
    json_array_foreach(vectors, i, row)
        check_text(w, json_string_value(json_object_get(row, "text")), json_object_get(row, "ids"));
    assert_true(i >= 20);
    json_decref(vectors);
    TokenIds ids = {0};
    assert_fails(wordpiece_encode(w, "\xc3", 35, &ids, &err), DRPO_E_INPUT, "UTF-8", err);
    free(ids.id);
    wordpiece_free(w);
}

static void other_files_are_refused(void **state) {
    (void)state;
    Error err = {0};
    WordPiece *w;
    char folder[512];
    fresh_dir("wordpiece", folder);
    const char *path = in_dir(folder, "vocab.txt");
    put_text(path, "[CLS]\n[SEP]\na\n");
    assert_fails(wordpiece_open(path, &w, &err), DRPO_E_INPUT, "[UNK]", err);
    assert_fails(wordpiece_open(in_dir(folder, "none.txt"), &w, &err), DRPO_E_INPUT, "none.txt", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_get_the_ids_of_transformers),
                                       cmocka_unit_test(other_files_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
