/* Files: a reader sees the old content or the new one, also when the disk is full or the size limit is hit. */
#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int entries(const char *folder) {
    DIR *d = opendir(folder);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_content(const char *path, const char *text) {
    Error err = {0};
    Arena *a = arena_new();
    char *got;
    size_t size;
    assert_ok(file_read_text(path, 1 << 20, a, &got, &size, &err), err);
    assert_int_equal(size, strlen(text));
    assert_string_equal(got, text);
    arena_free(a);
}

static void atomic_writing_replaces_the_whole(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("file_atomic", dir), "a.txt");
    assert_ok(file_write_atomic(path, "old and long", 12, &err), err);
    AtomicFile f;
    assert_ok(atomic_open(&f, path, &err), err);
    assert_ok(atomic_write(&f, "new", 3, &err), err);
    assert_content(path, "old and long"); /* nothing shows before the commit */
    assert_ok(atomic_commit(&f, &err), err);
    atomic_abort(&f); /* harmless now */
    assert_content(path, "new");
    assert_int_equal(entries(dir), 1);

    assert_ok(atomic_open(&f, path, &err), err);
    assert_ok(atomic_write(&f, "never", 5, &err), err);
    atomic_abort(&f);
    assert_content(path, "new");
    assert_int_equal(entries(dir), 1);
    assert_fails(file_write_atomic(in_dir(dir, "no/such/folder"), "x", 1, &err), DRPO_E_IO, "no/such/folder", err);
}

/* A write that stops in the middle, as on a full disk. */
static void a_failing_write_keeps_the_old_file(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("file_full", dir), "a.bin");
    assert_ok(file_write_atomic(path, "old", 3, &err), err);
    size_t size = 1 << 20;
    char *data = calloc(1, size);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = file_write_atomic(path, data, size, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    free(data);
    assert_fails(code, DRPO_E_IO, "a.bin: cannot write", err);
    assert_content(path, "old");
    assert_int_equal(entries(dir), 1);
}

/* The last bytes wait in a buffer; that they do not fit is only found out at the commit. */
static void a_full_device_is_noticed_at_the_commit(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    AtomicFile f;
    assert_ok(atomic_open(&f, in_dir(fresh_dir("file_full_device", dir), "a"), &err), err);
    f.stream = freopen("/dev/full", "wb", f.stream);
    if (!f.stream) skip();
    assert_ok(atomic_write(&f, "abc", 3, &err), err);
    assert_fails(atomic_commit(&f, &err), DRPO_E_IO, "No space left", err);
    assert_int_equal(entries(dir), 0);
}

static void mapping_and_reading_refuse_what_is_no_file(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    fresh_dir("file_map", dir);
    MappedFile m;
    assert_fails(file_map(in_dir(dir, "missing"), &m, &err), DRPO_E_INPUT, "No such file", err);
    assert_fails(file_map(dir, &m, &err), DRPO_E_INPUT, "a folder", err);
    put_text(in_dir(dir, "empty"), "");
    assert_ok(file_map(in_dir(dir, "empty"), &m, &err), err);
    assert_null(m.data);
    file_unmap(&m);
    put_text(in_dir(dir, "five"), "12345");
    assert_ok(file_map(in_dir(dir, "five"), &m, &err), err);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "12345", 5);
    file_unmap(&m);
    Arena *a = arena_new();
    char *text;
    assert_fails(file_read_text(in_dir(dir, "five"), 4, a, &text, NULL, &err), DRPO_E_INPUT, "at most 4", err);
    arena_free(a);
}

static void folders_are_made_committed_and_removed(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    fresh_dir("folders", dir);
    const char *tmp = in_dir(dir, "new.tmp"), *final = in_dir(dir, "new");
    assert_ok(dir_make(in_dir(tmp, "deep/deeper"), &err), err);
    assert_ok(dir_make(in_dir(tmp, "deep/deeper"), &err), err);
    put_text(in_dir(tmp, "deep/deeper/a"), "a");
    assert_ok(dir_commit(tmp, final, &err), err);
    assert_false(dir_exists(tmp));
    assert_content(in_dir(final, "deep/deeper/a"), "a");
    assert_ok(dir_make(tmp, &err), err);
    assert_fails(dir_commit(tmp, final, &err), DRPO_E_IO, "exists already", err);
    assert_fails(dir_make(in_dir(final, "deep/deeper/a"), &err), DRPO_E_IO, "not a folder", err);
    /* A link inside is removed, what it points to stays. */
    put_text(in_dir(dir, "outside"), "x");
    assert_int_equal(symlink(in_dir(dir, "outside"), in_dir(final, "link")), 0);
    assert_ok(dir_remove(final, &err), err);
    assert_ok(dir_remove(final, &err), err); /* gone already */
    assert_false(dir_exists(final));
    assert_true(file_exists(in_dir(dir, "outside")));
    assert_fails(dir_remove(in_dir(dir, "outside"), &err), DRPO_E_INPUT, "not a folder", err);
}

static void a_folder_is_locked_once(void **state) {
    (void)state;
    Error err = {0};
    int first, second;
    assert_ok(dir_make(TEST_TMP "/locked", &err), err);
    assert_ok(dir_lock(TEST_TMP "/locked", &first, &err), err);
    assert_fails(dir_lock(TEST_TMP "/locked", &second, &err), DRPO_E_USAGE, "another drpo works in this folder", err);
    assert_int_equal(second, -1);
    dir_unlock(&first);
    assert_int_equal(first, -1);
    assert_ok(dir_lock(TEST_TMP "/locked", &second, &err), err);
    dir_unlock(&second);
    assert_fails(dir_lock(TEST_TMP "/nowhere", &first, &err), DRPO_E_IO, "cannot open the folder", err);
}

static void paths_are_joined(void **state) {
    (void)state;
    Arena *a = arena_new();
    assert_string_equal(path_join(a, "a", "b"), "a/b");
    assert_string_equal(path_join(a, "a/", "b"), "a/b");
    assert_string_equal(path_join(a, "a", "/b"), "/b");
    assert_string_equal(path_join(a, "", "b"), "b");
    arena_free(a);
}

static void sha256_known_answers(void **state) {
    (void)state;
    char hex[65], text[1000];
    memset(text, 'a', sizeof text);
    static const struct {
        size_t size;
        const char *hex;
    } cases[] = {
        {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
        {56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
        {64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
        {119, "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb"},
        {1000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sha256_hex(text, cases[i].size, hex);
        assert_string_equal(hex, cases[i].hex);
    }
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void room_on_the_disk_is_asked_for(void **state) {
    (void)state;
    Error err = {0};
    assert_ok(disk_room(TEST_TMP, 1, &err), err);
    assert_ok(disk_room(TEST_TMP "/not/there/yet", 1, &err), err);
    assert_ok(disk_room("not-there-yet", 1, &err), err);
    assert_ok(disk_room("/not-there-yet", 1, &err), err);
    assert_fails(disk_room(TEST_TMP "/not/there/yet", SIZE_MAX, &err), DRPO_E_INPUT,
                 "/not/there/yet: 17179869184.00 GiB", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(atomic_writing_replaces_the_whole),
        cmocka_unit_test(a_failing_write_keeps_the_old_file),
        cmocka_unit_test(a_full_device_is_noticed_at_the_commit),
        cmocka_unit_test(mapping_and_reading_refuse_what_is_no_file),
        cmocka_unit_test(folders_are_made_committed_and_removed),
        cmocka_unit_test(a_folder_is_locked_once),
        cmocka_unit_test(room_on_the_disk_is_asked_for),
        cmocka_unit_test(paths_are_joined),
        cmocka_unit_test(sha256_known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
