/* Safetensors: what is written comes back, files of other writers are read, and every kind of damage is refused by
 * name. */
#include "check.h"

#include <stdlib.h>

#include "format/safetensors.h"

/* A file image: header length, header, data_size bytes of data. The caller frees it. */
static uint8_t *image_of(const char *header, size_t data_size, size_t *size) {
    size_t length = strlen(header);
    *size = 8 + length + data_size;
    uint8_t *bytes = calloc(1, *size + 1);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_size; i++) bytes[8 + length + i] = (uint8_t)i;
    return bytes;
}

static void written_tensors_come_back(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("safetensors", dir), "a.safetensors");
    float weight[6] = {1, 2, 3, 4, 5, 6};
    uint16_t half[3] = {0x3c00, 0, 0x4000};
    int64_t scalar = 77;
    SafeTensor tensors[] = {
        {"z.half", DT_F16, 1, {3}, half, 6},           {"b.weight", DT_F32, 2, {2, 3}, weight, 24},
        {"alpha", DT_I64, 0, {0}, &scalar, 8},         {"empty", DT_U8, 2, {0, 5}, NULL, 0},
        {"a.weight", DT_F32, 3, {1, 1, 2}, weight, 8},
    };
    TextPair pairs[] = {{"title", "a \"quoted\" title, gr\xc3\xbc\xc3\x9f"
                                  "e"},
                        {"steps", "40"}};
    assert_ok(safetensors_write(path, tensors, 5, pairs, 2, &err), err);
    SafeFile *f;
    assert_ok(safetensors_open(path, &f, &err), err);
    assert_string_equal(safetensors_path(f), path);
    assert_int_equal(safetensors_count(f), 5);
    static const char *order[] = {"alpha", "a.weight", "b.weight", "z.half", "empty"}; /* by element size, then name */
    for (size_t i = 0; i < 5; i++) assert_string_equal(safetensors_at(f, i)->name, order[i]);
    for (size_t i = 0; i < 5; i++) {
        const SafeTensor *t = safetensors_find(f, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, tensors[i].dtype);
        assert_int_equal(t->rank, tensors[i].rank);
        for (int d = 0; d < t->rank; d++) assert_int_equal(t->dim[d], tensors[i].dim[d]);
        assert_int_equal(t->bytes, tensors[i].bytes);
        if (t->bytes) assert_memory_equal(t->data, tensors[i].data, t->bytes);
        if (t->bytes) assert_int_equal((uintptr_t)t->data % 2, 0);
    }
    assert_int_equal((uintptr_t)safetensors_find(f, "alpha")->data % 8, 0);
    assert_null(safetensors_find(f, "c.weight"));
    assert_null(safetensors_at(f, 5));
    assert_string_equal(safetensors_metadata(f, "title"), pairs[0].value);
    assert_string_equal(safetensors_metadata(f, "format"), "pt");
    assert_null(safetensors_metadata(f, "author"));
    assert_int_equal(safetensors_metadata_count(f), 3);
    assert_string_equal(safetensors_metadata_at(f, 1).key, "steps");
    assert_string_equal(safetensors_metadata_at(f, 1).value, "40");
    assert_null(safetensors_metadata_at(f, 3).key);
    safetensors_close(f);
    safetensors_close(NULL);
}

static void writing_refuses_what_would_not_be_readable(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("safetensors_bad", dir), "a.safetensors");
    float x[4] = {0};
    SafeTensor wrong = {"w", DT_F32, 1, {3}, x, 16};
    assert_fails(safetensors_write(path, &wrong, 1, NULL, 0, &err), DRPO_E_INTERNAL, "'w' has 16 bytes", err);
    SafeTensor twice[] = {{"w", DT_F32, 1, {4}, x, 16}, {"w", DT_F32, 1, {4}, x, 16}};
    assert_fails(safetensors_write(path, twice, 2, NULL, 0, &err), DRPO_E_INTERNAL, "called 'w'", err);
    TextPair latin = {"author", "J\xf6rg"};
    assert_fails(safetensors_write(path, twice, 1, &latin, 1, &err), DRPO_E_INPUT, "'author' is not UTF-8", err);
    assert_false(file_exists(path));
}

#define T(dtype, shape, from, to) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

typedef struct Damage {
    const char *header;
    size_t data;
    const char *message;
} Damage;

static const Damage DAMAGES[] = {
    {"", 0, "not valid JSON"},
    {"{\"a\":" T("F32", "[2]", "0", "8"), 8, "not valid JSON"},
    {"[1]", 0, "not a JSON object"},
    {"{\"a\":" T("F32", "[2]", "8", "0") "}", 8, "'a' ends before it begins"},
    {"{\"a\":" T("F32", "[2]", "0", "8") "}", 7, "'a' ends at byte 8 of 7"},
    {"{\"a\":" T("F32", "[2]", "0", "8") "}", 9, "1 unused bytes after the last tensor a"},
    {"{\"a\":" T("F32", "[2]", "1", "9") "}", 9, "1 unused bytes before tensor 'a'"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "4", "12") "}", 12, "'b' overlaps tensor 'a'"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "0", "8") "}", 8, "overlaps"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "12", "20") "}", 20,
     "4 unused bytes before tensor 'b'"},
    {"{\"a\":" T("F32", "[3]", "0", "8") "}", 8, "'a' takes 8 bytes, its shape and dtype need 12"},
    {"{\"a\":" T("F16", "[2]", "0", "8") "}", 8, "need 4"},
    {"{\"a\":" T("F8_E4M3", "[8]", "0", "8") "}", 8, "'a' has the dtype 'F8_E4M3'"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'a' has no dtype"},
    {"{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'a' has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "'a' has no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "'a' has no pair of data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "'a' has no pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0.0,8]}}", 8, "'a' has no pair"},
    {"{\"a\":" T("F32", "[-2]", "0", "8") "}", 8, "'a' has a shape that is not"},
    {"{\"a\":" T("F32", "[2.0]", "0", "8") "}", 8, "'a' has a shape that is not"},
    {"{\"a\":" T("F32", "[2]", "-8", "0") "}", 8, "'a' has no pair"},
    {"{\"a\":" T("F32", "[4611686018427387904,4]", "0", "0") "}", 0, "'a' has a shape too large"},
    {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,2]", "0", "8") "}", 8, "rank 9"},
    {"{\"a\":" T("F32", "[99999999999999999999]", "0", "8") "}", 8, "not valid JSON"},
    {"{\"a\":7}", 0, "'a' is not described"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"a\":" T("F32", "[2]", "0", "8") "}", 8, "duplicate object key"},
    {"{\"__metadata__\":{\"format\":3}}", 0, "metadata 'format' is not a text"},
    {"{\"__metadata__\":\"pt\"}", 0, "__metadata__ is not an object"},
};

static void damaged_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof DAMAGES / sizeof *DAMAGES; i++) {
        Error err = {0};
        size_t size;
        uint8_t *bytes = image_of(DAMAGES[i].header, DAMAGES[i].data, &size);
        SafeFile *f = NULL;
        int code = safetensors_open_memory("x.safetensors", bytes, size, &f, &err);
        free(bytes);
        assert_null(f);
        assert_fails(code, DRPO_E_INPUT, DAMAGES[i].message, err);
    }
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = image_of("{\"__metadata__\":{\"format\":\"pt\"},\"a\":" T("F32", "[2]", "0", "8") "}", 8, &size);
    for (size_t cut = 0; cut < size; cut++) {
        Error err = {0};
        uint8_t *part = malloc(cut + 1); /* its own block: an overrun shows under the sanitizer */
        memcpy(part, bytes, cut);
        part = realloc(part, cut ? cut : 1);
        SafeFile *f = NULL;
        assert_fails(safetensors_open_memory("x.safetensors", part, cut, &f, &err), DRPO_E_INPUT, "x.safetensors", err);
        free(part);
    }
    Error err = {0};
    SafeFile *f;
    assert_ok(safetensors_open_memory("x.safetensors", bytes, size, &f, &err), err);
    assert_int_equal(safetensors_count(f), 1);
    safetensors_close(f);
    free(bytes);
}

static void strange_files_get_their_own_message(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    char dir[512];
    fresh_dir("safetensors_strange", dir);
    put_text(in_dir(dir, "lfs"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    assert_fails(safetensors_open(in_dir(dir, "lfs"), &f, &err), DRPO_E_INPUT, "git lfs pull", err);
    put_text(in_dir(dir, "page"), "<!DOCTYPE html><html></html>");
    assert_fails(safetensors_open(in_dir(dir, "page"), &f, &err), DRPO_E_INPUT, "this is no safetensors file", err);
    put_text(in_dir(dir, "empty"), "");
    assert_fails(safetensors_open(in_dir(dir, "empty"), &f, &err), DRPO_E_INPUT, "too few", err);
    put_file(in_dir(dir, "long"), "\xff\xff\0\0\0\0\0\0{}", 10);
    assert_fails(safetensors_open(in_dir(dir, "long"), &f, &err), DRPO_E_INPUT, "header of 65535 bytes in a file of 10",
                 err);
    assert_fails(safetensors_open(in_dir(dir, "none"), &f, &err), DRPO_E_INPUT, "none: cannot open", err);
}

/* Bytes 0, 1, 2, ... of every tensor, as often as user says. */
static int count_up(void *user, const SafeTensor *t, size_t first, size_t n, void *out, Error *err) {
    int *left = user;
    if ((*left)-- == 0) return fail(err, DRPO_E_CANCELLED, "enough at %s", t->name);
    for (size_t i = 0; i < n; i++) ((uint8_t *)out)[i] = (uint8_t)((first + i) % 251);
    return 0;
}

static void tensors_may_be_made_while_they_are_written(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("safetensors_made", dir), "a.safetensors");
    enum { LARGE = SAFE_PIECE + 6 };
    SafeTensor tensors[] = {
        {"b", DT_U8, 1, {LARGE}, NULL, LARGE}, {"a", DT_F16, 2, {2, 3}, NULL, 12}, {"none", DT_U8, 1, {0}, NULL, 0}};
    int pieces = 3;
    assert_ok(safetensors_write_made(path, tensors, 3, count_up, &pieces, &err), err);
    assert_int_equal(pieces, 0);
    SafeFile *f;
    assert_ok(safetensors_open(path, &f, &err), err);
    for (size_t i = 0; i < 2; i++) {
        const SafeTensor *t = safetensors_find(f, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, tensors[i].bytes);
        for (size_t k = 0; k < t->bytes; k++) assert_int_equal(((const uint8_t *)t->data)[k], k % 251);
    }
    safetensors_close(f);
    pieces = 2; /* the second piece of b is refused */
    path = in_dir(fresh_dir("safetensors_made", dir), "a.safetensors");
    assert_fails(safetensors_write_made(path, tensors, 3, count_up, &pieces, &err), DRPO_E_CANCELLED, "enough at b",
                 err);
    assert_ok(dir_remove(dir, &err), err); /* with nothing in it that could not be removed */
    assert_false(file_exists(path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_tensors_come_back),
        cmocka_unit_test(writing_refuses_what_would_not_be_readable),
        cmocka_unit_test(tensors_may_be_made_while_they_are_written),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(strange_files_get_their_own_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
