/* Memory: which phase of a run decides the peak, and what happens where encoded prompts cannot be kept. */
#include "check.h"

#include <string.h>

#include "model/text_pass.h"
#include "train/memory.h"

typedef struct Fixture {
    Job job;
    Session session;
    int warnings;
    char folder[512];
} Fixture;

static void count_warnings(void *user, int level, const char *text) {
    (void)text;
    *(int *)user += level == 1;
}

static Fixture *open_fixture(const char *name, const char *text_cache) {
    Error err = {0};
    Fixture *f = calloc(1, sizeof *f);
    fresh_dir(name, f->folder);
    f->job.config = config_new(DRPO_SAMPLE);
    f->job.log = (Log){count_warnings, &f->warnings};
    assert_ok(config_set(f->job.config, "threads", "1", SOURCE_FLAG, &err), err);
    assert_ok(config_set(f->job.config, "text-cache", text_cache, SOURCE_FLAG, &err), err);
    assert_ok(session_open(&f->session, f->job.config, &err), err);
    assert_ok(session_defer(&f->session, f->job.config, &err), err);
    return f;
}

static void close_fixture(Fixture *f) {
    session_close(&f->session);
    config_free(f->job.config);
    free(f);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static void weights_in_files_count_in_the_phase_that_reads_them(void **state) {
    (void)state;
    enum { LARGE = 1 << 30 };
    Fixture *f = open_fixture("memory_phases", "auto");
    MemoryPlan m;
    f->session.text_folder = f->folder;
    for (size_t mapped = 0; mapped <= LARGE; mapped += LARGE / 2) {
        memory_plan(&f->session, f->job.config, 0, mapped ? mapped : 1, 0, NULL, &m);
        assert_int_equal(m.mapped, mapped ? mapped : 1); /* nothing of the pipeline is planned */
        size_t most = larger(m.text + m.records, m.blocks + m.mapped + m.records);
        assert_int_equal(m.peak - m.process, most);
    }
    memory_plan(&f->session, f->job.config, 0, 1, 0, NULL, &m);
    assert_int_equal(m.peak - m.process, m.text + m.records); /* so little is gone before the texts are */
    close_fixture(f);
}

/* Also where the user is root, who may write into any folder: a file stands in the way. */
static void a_folder_that_nobody_named_may_be_sealed(void **state) {
    (void)state;
    Fixture *f = open_fixture("memory_sealed", "auto");
    put_text(in_dir(f->folder, "file"), "x");
    f->session.text_folder = arena_printf(f->session.arena, "%s/file/text", f->folder);
    memory_texts(&f->job, &f->session);
    assert_null(f->session.text_folder);
    assert_int_equal(f->warnings, 1);
    f->session.text_folder = arena_printf(f->session.arena, "%s/new/text", f->folder);
    memory_texts(&f->job, &f->session);
    assert_non_null(f->session.text_folder);
    assert_int_equal(f->warnings, 1);
    close_fixture(f);
}

static void a_folder_that_somebody_named_may_not(void **state) {
    (void)state;
    Error err = {0};
    const char *prompts[] = {"a star"};
    char root[512], path[1024];
    fresh_dir("memory_named_root", root);
    put_text(in_dir(root, "file"), "x");
    snprintf(path, sizeof path, "%s/file/text", root);
    Fixture *f = open_fixture("memory_named", path);
    memory_texts(&f->job, &f->session);
    assert_string_equal(f->session.text_folder, path);
    assert_fails(memory_commit(&f->job, &f->session, prompts, 1, &err), DRPO_E_IO, "is not a folder", err);
    close_fixture(f);
}

/* The folder is lost between opening and writing, as on a full disk. */
static int keep_and_lose(Fixture *f, bool must, const float **text, Error *err) {
    char command[1200];
    const char *prompts[] = {"a star", "a kite"};
    assert_ok(text_pass_keep(f->session.text, f->folder, must, err), *err);
    snprintf(command, sizeof command, "cd '%s' && for d in *; do rmdir \"$d\" && touch \"$d\"; done", f->folder);
    assert_int_equal(system(command), 0);
    TRY(text_pass_prepare(f->session.text, prompts, 2, NULL, NULL, err));
    return text_pass_encode(f->session.text, prompts[0], text, NULL, err);
}

static void a_prompt_that_cannot_be_kept_is_encoded_as_it_comes(void **state) {
    (void)state;
    Error err = {0};
    const float *text;
    Fixture *f = open_fixture("memory_lost", "auto");
    assert_ok(keep_and_lose(f, false, &text, &err), err);
    assert_non_null(text_pass_complaint(f->session.text));
    size_t bytes = sizeof(float) * text_encoders_floats(&f->session.pipeline->text);
    float *lost = malloc(bytes);
    memcpy(lost, text, bytes);
    close_fixture(f);

    f = open_fixture("memory_not_kept", "off");
    assert_ok(text_pass_encode(f->session.text, "a star", &text, NULL, &err), err);
    assert_memory_equal(text, lost, bytes);
    assert_null(text_pass_complaint(f->session.text));
    free(lost);
    close_fixture(f);

    f = open_fixture("memory_lost_named", "auto");
    assert_true(keep_and_lose(f, true, &text, &err) < 0);
    close_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_in_files_count_in_the_phase_that_reads_them),
        cmocka_unit_test(a_folder_that_nobody_named_may_be_sealed),
        cmocka_unit_test(a_folder_that_somebody_named_may_not),
        cmocka_unit_test(a_prompt_that_cannot_be_kept_is_encoded_as_it_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
