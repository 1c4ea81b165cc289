/* Cache: the fingerprint of a large file is computed once, and again whenever the file or the record is not what it
 * was. */
#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cache.h"

enum { SIZE = 33 << 20 };

/* A large file of zeros but for one byte, last changed long ago. */
static void make_large(const char *path, char byte, long changed) {
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0666);
    struct timespec times[2] = {{changed, 5}, {changed, 5}};
    assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0 && pwrite(fd, &byte, 1, SIZE / 2) == 1);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

/* Where the record of a file is kept. */
static const char *record_of(const char *cache, const char *file) {
    char full[PATH_MAX], name[65];
    assert_non_null(realpath(file, full));
    sha256_hex(full, strlen(full), name);
    return in_dir(in_dir(cache, "drpo/hashes"), name);
}

/* Puts another hash into the record; the rest still fits the file. */
static void forge(const char *record, char digit) {
    FILE *f = fopen(record, "r+");
    assert_non_null(f);
    for (int i = 0; i < 64; i++) fputc(digit, f);
    fclose(f);
}

static void a_large_file_is_hashed_once(void **state) {
    (void)state;
    Error err = {0};
    char dir[512], honest[65], hex[65];
    fresh_dir("cache_hash", dir);
    setenv("XDG_CACHE_HOME", dir, 1);
    const char *path = in_dir(dir, "model.safetensors"), *record = NULL;
    make_large(path, 1, 1600000000);
    assert_ok(cached_sha256(path, honest, &err), err);
    assert_ok(sha256_file(path, hex, &err), err);
    assert_string_equal(hex, honest);
    record = record_of(dir, path);
    assert_true(file_exists(record));

    forge(record, 'a'); /* what is remembered is believed */
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_int_equal(strspn(hex, "a"), 64);

    make_large(path, 2, 1600000001); /* another time */
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_string_not_equal(hex, honest);
    assert_true(strspn(hex, "a") < 64);

    forge(record, 'Z'); /* no hash at all */
    assert_ok(cached_sha256(path, hex, &err), err);
    make_large(path, 1, 1600000000);
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_string_equal(hex, honest);
    put_text(record, "cut");
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_string_equal(hex, honest);
}

static void what_changed_a_moment_ago_is_not_remembered(void **state) {
    (void)state;
    Error err = {0};
    char dir[512], hex[65];
    setenv("XDG_CACHE_HOME", fresh_dir("cache_new", dir), 1);
    const char *path = in_dir(dir, "model.safetensors");
    make_large(path, 1, (long)time(NULL));
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_false(file_exists(record_of(dir, path)));
}

static void without_a_folder_it_still_works(void **state) {
    (void)state;
    Error err = {0};
    char dir[512], hex[65];
    fresh_dir("cache_none", dir);
    const char *path = in_dir(dir, "model.safetensors");
    make_large(path, 1, 1600000000);
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
    assert_ok(cached_sha256(path, hex, &err), err);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_ok(cached_sha256(path, hex, &err), err);
    assert_fails(cached_sha256(in_dir(dir, "absent"), hex, &err), DRPO_E_INPUT, "absent", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_file_is_hashed_once),
        cmocka_unit_test(what_changed_a_moment_ago_is_not_remembered),
        cmocka_unit_test(without_a_folder_it_still_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
