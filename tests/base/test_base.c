/* Errors, arenas, clocks and log lines. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

static void the_first_cause_wins(void **state) {
    (void)state;
    Error err = {0};
    assert_int_equal(fail(&err, DRPO_E_INPUT, "%s: broken", "a.bin"), DRPO_E_INPUT);
    assert_int_equal(fail(&err, DRPO_E_IO, "later"), DRPO_E_IO);
    assert_string_equal(err.text, "a.bin: broken");
    assert_int_equal(err.code, DRPO_E_INPUT);
    assert_int_equal(fail_in(&err, "model %d", 3), DRPO_E_INPUT);
    assert_string_equal(err.text, "model 3: a.bin: broken");
    error_clear(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "");
    assert_int_equal(fail(NULL, DRPO_E_IO, "nobody listens"), DRPO_E_IO);
    assert_true(fail_in(NULL, "nobody listens") < 0);
}

static void the_system_reason_is_appended(void **state) {
    (void)state;
    Error err = {0};
    errno = ENOENT;
    assert_int_equal(fail_errno(&err, DRPO_E_INPUT, "x"), DRPO_E_INPUT);
    assert_string_equal(err.text, "x: No such file or directory");
}

static void long_messages_are_cut_not_overrun(void **state) {
    (void)state;
    Error err = {0};
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fail(&err, DRPO_E_INPUT, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    fail_in(&err, "context");
    assert_int_equal(strncmp(err.text, "context: xxx", 12), 0);
    assert_true(strlen(err.text) < sizeof err.text);
    fail_in(&err, "%s", text);
    assert_true(strlen(err.text) < sizeof err.text);
}

static int two_steps(int first, Error *err) {
    TRY(first < 0 ? fail(err, first, "first") : 0);
    return 7;
}

static void try_passes_failures_up(void **state) {
    (void)state;
    Error err = {0};
    assert_int_equal(two_steps(0, &err), 7);
    assert_int_equal(two_steps(DRPO_E_MEMORY, &err), DRPO_E_MEMORY);
}

static void arenas_give_zeroed_aligned_memory(void **state) {
    (void)state;
    Arena *a = arena_new();
    static const size_t sizes[] = {1, 63, 64, 65, 5000, 100000, 0, 3, 1 << 20, 17};
    unsigned char *blocks[10];
    for (int i = 0; i < 10; i++) {
        blocks[i] = arena_alloc(a, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(blocks[i][j], 0);
        memset(blocks[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < 10; i++)
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(blocks[i][j], i + 1); /* no overlap */
    assert_true(arena_bytes(a) >= (1 << 20) + 105000);
    assert_string_equal(arena_strdup(a, "word"), "word");
    assert_string_equal(arena_printf(a, "%s-%05d", "n", 42), "n-00042");
    assert_false(arena_failed(a));
    arena_free(a);
    arena_free(NULL);
}

static void arenas_remember_that_memory_ran_out(void **state) {
    (void)state;
    Arena *a = arena_new();
    assert_null(arena_alloc(a, SIZE_MAX - 10));
    assert_true(arena_failed(a));
    assert_non_null(arena_alloc(a, 10)); /* still usable for the error path */
    assert_true(arena_failed(a));
    arena_free(a);
}

static void clocks_run(void **state) {
    (void)state;
    double a = clock_seconds(), b = clock_seconds();
    assert_true(b >= a);
    assert_true(clock_wall() > 1.6e9);
    size_t size = 64 << 20;
    long long before = memory_now_bytes();
    volatile char *block = malloc(size); /* volatile: the compiler must not drop the writes */
    for (size_t i = 0; i < size; i += 1024) block[i] = 1;
    long long now = memory_now_bytes(), peak = memory_peak_bytes();
    free((void *)block);
    assert_true(now - before > (60 << 20));
    assert_true(peak >= now - (8 << 20));
}

typedef struct Lines {
    int count, level;
    char text[64];
} Lines;

static void keep(void *user, int level, const char *text) {
    Lines *lines = user;
    lines->count++;
    lines->level = level;
    snprintf(lines->text, sizeof lines->text, "%s", text);
}

static void log_lines_reach_the_callback(void **state) {
    (void)state;
    Lines lines = {0};
    Log log = {keep, &lines};
    log_info(&log, "step %d", 4);
    assert_string_equal(lines.text, "step 4");
    assert_int_equal(lines.level, 0);
    log_warn(&log, "careful");
    assert_int_equal(lines.level, 1);
    log_warn(&(Log){0}, "silent");
    log_info(NULL, "silent");
    assert_int_equal(lines.count, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_cause_wins),
        cmocka_unit_test(the_system_reason_is_appended),
        cmocka_unit_test(long_messages_are_cut_not_overrun),
        cmocka_unit_test(try_passes_failures_up),
        cmocka_unit_test(arenas_give_zeroed_aligned_memory),
        cmocka_unit_test(arenas_remember_that_memory_ran_out),
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(log_lines_reach_the_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
