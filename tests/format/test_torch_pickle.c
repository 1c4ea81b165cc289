/* PyTorch checkpoints: every form gives the tensors that PyTorch gives; everything that is more than data is refused.
 */
#include "check.h"

#include <stdlib.h>

#include "format/safetensors.h"
#include "format/torch_pickle.h"

static const char folder[] = SOURCE_DIR "/tests/golden/torch_pickle";

/* ---- files of torch.save ---- */

static void assert_same_tensors(const SafeFile *f, const char *name) {
    Error err = {0};
    SafeFile *wanted;
    assert_ok(safetensors_open(in_dir(folder, "tensors.safetensors"), &wanted, &err), err);
    assert_int_equal(safetensors_count(f), safetensors_count(wanted));
    for (size_t i = 0; i < safetensors_count(wanted); i++) {
        const SafeTensor *y = safetensors_at(wanted, i), *x = safetensors_find(f, y->name);
        if (!x) fail_msg("%s has no %s", name, y->name);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, sizeof *x->dim * (size_t)x->rank);
        assert_int_equal(x->bytes, y->bytes);
        if (memcmp(x->data, y->data, y->bytes) != 0) fail_msg("%s: %s differs", name, y->name);
    }
    safetensors_close(wanted);
}

static void every_form_gives_its_tensors(void **state) {
    (void)state;
    static const struct {
        const char *file, *root;
    } cases[] = {{"plain.pt", NULL},           {"plain.pt", ""},       {"trainer.pt", NULL},
                 {"trainer.pt", "state_dict"}, {"protocol4.pt", NULL}, {"protocol4.pt", "model.inner"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        SafeFile *f;
        assert_ok(torch_pickle_open(in_dir(folder, cases[i].file), cases[i].root, &f, &err), err);
        assert_same_tensors(f, cases[i].file);
        assert_null(safetensors_metadata(f, "format"));
        safetensors_close(f);
        assert_true(torch_pickle_is(in_dir(folder, cases[i].file)));
    }
    assert_false(torch_pickle_is(in_dir(folder, "tensors.safetensors")));
    assert_false(torch_pickle_is(in_dir(folder, "nothing")));
}

static void dictionaries_are_chosen_by_name(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    assert_ok(torch_pickle_open(in_dir(folder, "trainer.pt"), "ema", &f, &err), err);
    assert_int_equal(safetensors_count(f), 4);
    assert_non_null(safetensors_find(f, "1.weight"));
    safetensors_close(f);
    assert_fails(torch_pickle_open(in_dir(folder, "trainer.pt"), "weights", &f, &err), DRPO_E_INPUT, "'optimizer'",
                 err);
    assert_fails(torch_pickle_open(in_dir(folder, "trainer.pt"), "args", &f, &err), DRPO_E_INPUT, "no keys", err);
}

static void other_files_are_refused(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    assert_fails(torch_pickle_open(in_dir(folder, "module.pt"), NULL, &f, &err), DRPO_E_INPUT,
                 "torch.nn.modules.container.Sequential", err);
    assert_fails(torch_pickle_open(in_dir(folder, "legacy.pt"), NULL, &f, &err), DRPO_E_INPUT, "since PyTorch 1.6",
                 err);
    assert_fails(torch_pickle_open(in_dir(folder, "none.pt"), NULL, &f, &err), DRPO_E_INPUT, "none.pt", err);
}

/* ---- archives made here ---- */

typedef struct Bytes {
    uint8_t data[4096];
    size_t size;
} Bytes;

static void put(Bytes *b, const void *data, size_t size) {
    assert_true(b->size + size <= sizeof b->data);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_number(Bytes *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) put(b, &(uint8_t){i < 8 ? (uint8_t)(v >> (8 * i)) : 0}, 1);
}

typedef struct Archive {
    Bytes file, directory;
    size_t count;
    bool wide; /* zip64 */
} Archive;

static void add_entry(Archive *z, const char *name, const void *data, size_t size) {
    const size_t at = z->file.size, length = strlen(name);
    put(&z->file, "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18);
    put_number(&z->file, size, 4), put_number(&z->file, size, 4);
    put_number(&z->file, length, 2), put_number(&z->file, 3, 2);
    put(&z->file, name, length), put(&z->file, "pad", 3), put(&z->file, data, size);
    Bytes *d = &z->directory;
    put(d, "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    for (int i = 0; i < 2; i++) put_number(d, z->wide ? UINT32_MAX : size, 4);
    put_number(d, length, 2), put_number(d, z->wide ? 32 : 0, 2), put_number(d, 0, 10);
    put_number(d, z->wide ? UINT32_MAX : at, 4), put(d, name, length);
    if (z->wide) {
        put(d, "\xff\xff\0\0\1\0\x18\0", 8); /* a field of someone else before it */
        for (int i = 0; i < 2; i++) put_number(d, size, 8);
        put_number(d, at, 8);
    }
    z->count++;
}

static void end_archive(Archive *z) {
    Bytes *f = &z->file;
    const size_t at = f->size;
    put(f, z->directory.data, z->directory.size);
    if (z->wide) {
        const size_t end = f->size;
        put(f, "PK\6\6", 4), put_number(f, 44, 8), put_number(f, 0, 12);
        put_number(f, z->count, 8), put_number(f, z->count, 8);
        put_number(f, z->directory.size, 8), put_number(f, at, 8);
        put(f, "PK\6\7\0\0\0\0", 8), put_number(f, end, 8), put_number(f, 1, 4);
    }
    put(f, "PK\5\6\0\0\0\0", 8);
    for (int i = 0; i < 2; i++) put_number(f, z->wide ? UINT16_MAX : z->count, 2);
    put_number(f, z->wide ? UINT32_MAX : z->directory.size, 4);
    put_number(f, z->wide ? UINT32_MAX : at, 4), put_number(f, 0, 2);
}

/* A checkpoint of this pickle, with one storage "0" of six floats 0, 1, ... */
static void make_archive(Archive *z, bool wide, const char *pickle, size_t size) {
    const float values[6] = {0, 1, 2, 3, 4, 5};
    *z = (Archive){.wide = wide};
    add_entry(z, "a/data.pkl", pickle, size);
    add_entry(z, "a/data/0", values, sizeof values);
    end_archive(z);
}

static int open_pickle(const char *pickle, size_t size, SafeFile **f, Error *err) {
    static Archive z; /* stays while the file is read */
    make_archive(&z, false, pickle, size);
    return torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, f, err);
}

#define STORAGE                                                                                                        \
    "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                                                \
    "0X\3\0\0\0cpuK\6tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
/* {"x": a tensor of this storage, offset, size and stride} */
#define TENSOR(place) "\x80\2}X\1\0\0\0x" REBUILD STORAGE place "\x89}tRs."
#define OPEN(pickle, f, err) open_pickle(pickle, sizeof(pickle) - 1, f, err)

static void strides_and_offsets_are_followed(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    static const struct {
        const char *pickle;
        size_t size;
        int rank;
        float values[4];
    } cases[] = {
#define CASE(place, ...) {TENSOR(place), sizeof(TENSOR(place)) - 1, __VA_ARGS__}
        CASE("K\1K\2\x85K\1\x85", 1, {1, 2}),
        CASE("K\0K\2K\2\x86K\1K\3\x86", 2, {0, 3, 1, 4}),
        CASE("K\2K\2K\2\x86K\0K\1\x86", 2, {2, 3, 2, 3}),
        CASE("K\5))", 0, {5}),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(open_pickle(cases[i].pickle, cases[i].size, &f, &err), err);
        const SafeTensor *x = safetensors_find(f, "x");
        assert_non_null(x);
        assert_int_equal(x->rank, cases[i].rank);
        assert_memory_equal(x->data, cases[i].values, x->bytes);
        safetensors_close(f);
    }
    assert_fails(OPEN(TENSOR("K\5K\2\x85K\1\x85"), &f, &err), DRPO_E_INPUT, "does not fit its storage", err);
    assert_fails(OPEN(TENSOR("K\0K\2\x85J\xff\xff\xff\xff\x85"), &f, &err), DRPO_E_INPUT, "no proper shape", err);
    assert_fails(OPEN(TENSOR("K\0K\2\x85K\1K\1\x86"), &f, &err), DRPO_E_INPUT, "no proper shape", err);
    assert_fails(OPEN(TENSOR("K\0J\xff\xff\xff\x7f\x85K\0\x85"), &f, &err), DRPO_E_INPUT, "repeats its elements", err);
    assert_fails(OPEN(TENSOR("K\0\x8a\x8\0\0\0\0\0\0\0\x10\x85\x8a\x8\0\0\0\0\0\0\0\x10\x85"), &f, &err), DRPO_E_INPUT,
                 "does not fit", err);
}

static void nothing_but_data_is_read(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    assert_fails(OPEN("\x80\2cposix\nsystem\nX\4\0\0\0true\x85R.", &f, &err), DRPO_E_INPUT, "posix.system", err);
    assert_fails(OPEN("\x80\4\x8c\x8"
                      "builtins\x8c\4eval\x93\x8c\1"
                      "1\x85R.",
                      &f, &err),
                 DRPO_E_INPUT, "builtins.eval", err);
    assert_fails(OPEN("\x80\2(S'true'\nios\nsystem\n.", &f, &err), DRPO_E_INPUT, "opcode 0x53", err);
    assert_fails(OPEN("\x80\2(ios\nsystem\n.", &f, &err), DRPO_E_INPUT, "opcode 0x69", err);
    assert_fails(OPEN("\x80\2ccollections\nOrderedDict\n\x82\1.", &f, &err), DRPO_E_INPUT, "opcode 0x82", err);
    assert_fails(OPEN("\x80\2]X\1\0\0\0a\x85R.", &f, &err), DRPO_E_INPUT, "calls what is no name", err);
    assert_fails(OPEN("\x80\2}q\0(X\1\0\0\0ah\0X\1\0\0\0x" REBUILD STORAGE "K\0K\2\x85K\1\x85\x89}tRu.", &f, &err),
                 DRPO_E_INPUT, "nested too deeply", err);
    assert_fails(OPEN("\x80\2K\1.", &f, &err), DRPO_E_INPUT, "no dictionary", err);
    assert_fails(OPEN("\x80\2}.", &f, &err), DRPO_E_INPUT, "no keys", err);
    assert_fails(OPEN("\x80\2}X\1\0\0\0ah\7s.", &f, &err), DRPO_E_INPUT, "never had", err);
    assert_fails(OPEN("\x80\2}K\1s.", &f, &err), DRPO_E_INPUT, "empty stack", err);
    assert_fails(OPEN("\x80\2tttt.", &f, &err), DRPO_E_INPUT, "lacks a mark", err);
    assert_fails(OPEN("\x80\2}X\377\377\377\377a", &f, &err), DRPO_E_INPUT, "cut off", err);
    assert_fails(OPEN("\x80\2}", &f, &err), DRPO_E_INPUT, "cut off", err);
    assert_fails(OPEN("\x80\2}X\1\0\0\0\xff"
                      "Ns.",
                      &f, &err),
                 DRPO_E_INPUT, "not UTF-8", err);
    assert_fails(OPEN("\x80\2}X\1\0\0\0x" REBUILD "(N"
                      "K\0K\2\x85K\1\x85\x89}tRs.",
                      &f, &err),
                 DRPO_E_INPUT, "no storage", err);
}

static void archives_are_read_in_both_widths(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    static Archive z;
    for (int wide = 0; wide < 2; wide++) {
        make_archive(&z, wide, TENSOR("K\1K\2\x85K\1\x85"), sizeof(TENSOR("K\1K\2\x85K\1\x85")) - 1);
        assert_ok(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), err);
        assert_memory_equal(safetensors_find(f, "x")->data, ((float[]){1, 2}), 8);
        safetensors_close(f);
        for (size_t cut = 0; cut < z.file.size; cut++) {
            uint8_t *part = malloc(cut + 1);
            memcpy(part, z.file.data, cut);
            assert_int_equal(torch_pickle_open_memory("p", part, cut, NULL, &f, &err), DRPO_E_INPUT);
            error_clear(&err);
            free(part);
        }
    }
}

static void damaged_archives_are_refused(void **state) {
    (void)state;
    Error err = {0};
    SafeFile *f;
    static Archive z;
    const char pickle[] = TENSOR("K\1K\2\x85K\1\x85");
    make_archive(&z, false, pickle, sizeof pickle - 1);
    const size_t directory = z.file.size - 22 - z.directory.size;
    z.file.data[directory + 10] = 8;
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT, "compressed",
                 err);
    z.file.data[directory + 10] = 0, z.file.data[directory + 8] = 1;
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT, "encrypted",
                 err);
    z.file.data[directory + 8] = 0, z.file.data[directory + 44] = 1;
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT, "missing", err);
    z = (Archive){0};
    add_entry(&z, "a/other", "x", 1);
    end_archive(&z);
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT, "no data.pkl",
                 err);
    z = (Archive){0};
    add_entry(&z, "a/data.pkl", pickle, sizeof pickle - 1);
    add_entry(&z, "a/byteorder", "big", 3);
    end_archive(&z);
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT, "big-endian",
                 err);
    z = (Archive){0};
    add_entry(&z, "a/data.pkl", pickle, sizeof pickle - 1);
    end_archive(&z);
    assert_fails(torch_pickle_open_memory("p", z.file.data, z.file.size, NULL, &f, &err), DRPO_E_INPUT,
                 "storage that is not in the file", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_its_tensors), cmocka_unit_test(dictionaries_are_chosen_by_name),
        cmocka_unit_test(other_files_are_refused),      cmocka_unit_test(strides_and_offsets_are_followed),
        cmocka_unit_test(nothing_but_data_is_read),     cmocka_unit_test(archives_are_read_in_both_widths),
        cmocka_unit_test(damaged_archives_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
