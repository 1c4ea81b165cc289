/* Repository ids in the Hugging Face cache: which folder is the cache, which commit a revision means. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "model/repository.h"

static const char COMMIT[] = "0123456789012345678901234567890123456789";

static void clear_environment(void) {
    static const char *const names[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

static void test_ids(void **state) {
    (void)state;
    static const char *const yes[] = {"stabilityai/sd-turbo", "a/b", "A_1/x.y-2"};
    static const char *const no[] = {"sd-turbo", "/a/b", "a/b/c", "./a", "../a", "a/..", "a/", "", "a b/c", "a/b--c"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) assert_true(repository_is_id(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(repository_is_id(no[i]));
}

static void test_which_cache(void **state) {
    (void)state;
    Arena *a = arena_new();
    char *home = strdup(getenv("HOME") ? getenv("HOME") : "/");
    clear_environment();
    setenv("HOME", "/home/me", 1);
    assert_string_equal(repository_cache(a), "/home/me/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_string_equal(repository_cache(a), "/x/huggingface/hub");
    setenv("HF_HOME", "~/hf", 1);
    assert_string_equal(repository_cache(a), "/home/me/hf/hub");
    setenv("HF_HUB_CACHE", "", 1); /* set to nothing is not set */
    assert_string_equal(repository_cache(a), "/home/me/hf/hub");
    setenv("HF_HUB_CACHE", "/hub", 1);
    assert_string_equal(repository_cache(a), "/hub");
    clear_environment();
    setenv("HOME", home, 1);
    free(home);
    arena_free(a);
}

/* Whether `revision` is found, and is the folder of COMMIT. */
static int find(const char *revision, Arena *a, Error *err) {
    const char *folder = NULL;
    int code = repository_find("some/model", revision, a, &folder, err);
    if (code == 0) assert_string_equal(strrchr(folder, '/') + 1, COMMIT);
    return code;
}

static void test_revisions(void **state) {
    (void)state;
    char cache[512];
    Error err = {0};
    Arena *a = arena_new();
    fresh_dir("hub", cache);
    setenv("HF_HUB_CACHE", cache, 1);
    assert_fails(find("", a, &err), DRPO_E_INPUT, "neither a folder nor in the Hugging Face cache", err);
    assert_fails(find("dev", a, &err), DRPO_E_INPUT, "hf download some/model --revision dev", err);

    const char *model = in_dir(cache, "models--some--model");
    const char *snapshot = arena_printf(a, "%s/snapshots/%s", model, COMMIT);
    assert_ok(dir_make(snapshot, &err), err);
    assert_ok(dir_make(in_dir(model, "refs/refs/pr"), &err), err);
    assert_fails(find("", a, &err), DRPO_E_INPUT, "--revision 0123456789", err); /* downloaded by its commit */
    assert_ok(find(COMMIT, a, &err), err);
    put_text(in_dir(model, "refs/main"), COMMIT);
    put_text(in_dir(model, "refs/refs/pr/1"), "0123456789012345678901234567890123456789\n");
    put_text(in_dir(model, "refs/old"), "9999999999999999999999999999999999999999");
    put_text(in_dir(model, "refs/bad"), "../snapshots");
    put_text(in_dir(model, "refs/empty"), "");
    assert_ok(find(NULL, a, &err), err);
    assert_ok(find("main", a, &err), err);
    assert_ok(find("refs/pr/1", a, &err), err);
    assert_fails(find("old", a, &err), DRPO_E_INPUT, "no revision 'old'", err);
    assert_fails(find("bad", a, &err), DRPO_E_INPUT, "no revision 'bad'", err);
    assert_fails(find("empty", a, &err), DRPO_E_INPUT, "no revision 'empty'", err);
    assert_fails(find("../..", a, &err), DRPO_E_USAGE, "--revision", err);
    clear_environment();
    arena_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids), cmocka_unit_test(test_which_cache),
                                       cmocka_unit_test(test_revisions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
