/* Every fault of a reward outside, through a program and through a server that misbehave on purpose
 * (faulty_worker.py): the error names it, nothing that is not finite comes out, and the next attempt is answered. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "step/reward/child.h"
#include "step/reward/reward.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

enum { COUNT = 6, BYTES = 3 * 4 * 3 };

#define FOLDER TEST_TMP "/faulty"
#define WORKER "python3 " SOURCE_DIR "/tests/step/faulty_worker.py"

typedef struct Fault {
    const char *name, *words; /* words NULL: no fault at all, however odd */
} Fault;

static const Fault common[] = {
    {"ok", NULL},
    {"slow", NULL},
    {"nan", "NaN and Infinity"},
    {"inf", "NaN and Infinity"},
    {"overflow", "score 1 of 6 is not a finite number"},
    {"null", "score 1 of 6 is not a finite number"},
    {"text", "score 1 of 6 is not a finite number"},
    {"few", "5 scores for 6 pictures"},
    {"many", "7 scores for 6 pictures"},
    {"number", "not a list"},
    {"error", "it reports: out of paint"},
    {"malformed", "not JSON"},
    {"huge", "longer than 1 MiB"},
    {"hang", "no reply within 3 s"},
};
enum { COMMON = sizeof common / sizeof *common };

static void fresh_folder(void) {
    Error err = {0};
    assert_int_equal(dir_make(FOLDER, &err), 0);
    unlink(FOLDER "/requests");
    unlink(FOLDER "/connections");
}

static long count_of(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 ? (long)s.st_size : 0;
}

static Pictures numbered(uint8_t *rgb) {
    for (int k = 0; k < COUNT; k++) memset(rgb + k * BYTES, 20 + k, BYTES);
    return (Pictures){rgb, COUNT, 3, 4};
}

static Reward *open_spec(const char *spec) {
    Reward *r = NULL;
    Error err = {0};
    if (reward_open(spec, NULL, 0, &r, &err) < 0) fail_msg("%s", err.text);
    return r;
}

static int score(Reward *r, float *scores, Error *err) {
    uint8_t rgb[COUNT * BYTES];
    const Pictures pictures = numbered(rgb);
    const Prompt prompt = {"a star", NULL, "{\"tag\": \"x\"}"};
    error_clear(err);
    return reward_score(r, &prompt, &pictures, scores, NULL, err);
}

static void expect_good(Reward *r, const char *what) {
    float scores[COUNT];
    Error err = {0};
    if (score(r, scores, &err) < 0) fail_msg("%s: %s", what, err.text);
    for (int k = 0; k < COUNT; k++) assert_true(scores[k] == 20 + k);
}

/* Every fault in turn, one attempt each: it is named, and the same reward goes on with the next request. */
static void check_faults(Reward *r, const Fault *faults, int n) {
    long faulty = 0;
    for (int k = 0; k < n; k++) {
        const Fault *f = &faults[k];
        float scores[COUNT];
        Error err = {0};
        if (!f->words) {
            expect_good(r, f->name);
            continue;
        }
        assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
        if (!strstr(err.text, f->words)) fail_msg("%s: '%s' does not say '%s'", f->name, err.text, f->words);
        if (!strstr(err.text, "reward ")) fail_msg("%s: '%s' does not name the reward", f->name, err.text);
        for (int i = 0; i < COUNT; i++) assert_true(scores[i] == 0);
        assert_int_equal(r->faults, ++faulty);
    }
    expect_good(r, "after all of them");
}

static int join(const Fault *own, int n_own, Fault *all, char *names, size_t size) {
    *names = 0;
    for (int k = 0; k < COMMON + n_own; k++) {
        all[k] = k < COMMON ? common[k] : own[k - COMMON];
        snprintf(names + strlen(names), size - strlen(names), "%s%s", k ? "," : "", all[k].name);
    }
    return COMMON + n_own;
}

/* ---- programs ---- */

static void test_programs(void **state) {
    (void)state;
    static const Fault own[] = {
        {"crash", "exited with status 3; its stderr ends: the last words"}, {"killed", "by signal 9"}, {"flood", NULL}};
    Fault all[64];
    char names[512], spec[1400];
    const int n = join(own, 3, all, names, sizeof names);
    snprintf(spec, sizeof spec, "exec:" WORKER " exec " FOLDER " %s?images=rgb&timeout=3&ready_timeout=60&retries=0",
             names);
    fresh_folder();
    Reward *r = open_spec(spec);
    check_faults(r, all, n);
    reward_close(r);
}

static void test_several_workers(void **state) {
    (void)state;
    fresh_folder();
    Reward *r =
        open_spec("exec:" WORKER " exec " FOLDER " ok,crash,ok,nan,ok,hang?images=rgb&workers=3&batch=1&timeout=3"
                  "&ready_timeout=60&retries=3&backoff=0.01");
    assert_int_equal(r->lanes, 3);
    expect_good(r, "three workers");
    assert_int_equal(r->faults, 3);
    assert_int_equal(count_of(FOLDER "/requests"), COUNT + 3);
    expect_good(r, "again");
    reward_close(r);
}

static void test_workers_know_their_number(void **state) {
    (void)state;
    Reward *r = open_spec("exec:while read -r line; do sleep 0.2; echo \"{\\\"scores\\\":[$DRPO_WORKER]}\"; done"
                          "?workers=6&batch=1");
    float scores[COUNT];
    int seen = 0;
    Error err = {0};
    if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    for (int k = 0; k < COUNT; k++) seen |= 1 << (int)scores[k];
    assert_int_equal(seen, 63);
    reward_close(r);
}

/* ---- servers ---- */

static int start_speaking(Child *server, const char *language, const char *faults) {
    char command[1200], *line = NULL;
    size_t written = 0;
    ChildEvent event = CHILD_CLOSED;
    Error err = {0};
    fresh_folder();
    snprintf(command, sizeof command, "exec " WORKER " %s " FOLDER " %s", language, faults);
    assert_int_equal(child_start(server, command, &err), 0);
    assert_int_equal(child_exchange(server, "", 0, &written, clock_seconds() + 60, &line, &event, &err), 0);
    assert_int_equal(event, CHILD_LINE);
    return atoi(line);
}

static int start_server(Child *server, const char *faults) { return start_speaking(server, "http", faults); }

static void test_servers(void **state) {
    (void)state;
    static const Fault own[] = {{"500", "HTTP status 500: something broke"},
                                {"503", "HTTP status 503"},
                                {"302", "HTTP status 302"},
                                {"empty", "its reply is empty"},
                                {"none", "its reply has no \"scores\""},
                                {"drop,ok", NULL} /* asked again over a new connection */,
                                {"half", "http://127.0.0.1:"}};
    Fault all[64];
    Child server;
    char names[512], spec[256];
    const int n = join(own, 7, all, names, sizeof names), port = start_server(&server, names);
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/?images=rgb&timeout=3&retries=0", port);
    Reward *r = open_spec(spec);
    check_faults(r, all, n);
    reward_close(r);
    child_stop(&server, 0);
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/?images=rgb&backoff=0.01", start_server(&server, "500,nan"));
    r = open_spec(spec);
    expect_good(r, "the third attempt");
    assert_int_equal(r->faults, 2);
    reward_close(r);
    child_stop(&server, 0);
}

static void test_a_connection_stays_open(void **state) {
    (void)state;
    Child server;
    char spec[256];
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/?images=rgb&batch=1", start_server(&server, "ok"));
    Reward *r = open_spec(spec);
    for (int k = 0; k < 3; k++) expect_good(r, "kept");
    reward_close(r);
    assert_int_equal(count_of(FOLDER "/requests"), 3 * COUNT);
    assert_int_equal(count_of(FOLDER "/connections"), 1);
    child_stop(&server, 0);
}

static void test_tokens_and_names(void **state) {
    (void)state;
    Child server;
    char spec[256];
    const int port = start_server(&server, "ok");
    float scores[COUNT];
    Error err = {0};
    snprintf(spec, sizeof spec, "http://me:hidden@127.0.0.1:%d/secret?images=rgb&retries=0&token_env=DRPO_TEST_TOKEN",
             port);
    setenv("DRPO_TEST_TOKEN", "sesame", 1);
    Reward *r = open_spec(spec);
    assert_string_equal(r->name, "http_127_0_0_1");
    assert_null(strstr(r->label, "hidden"));
    expect_good(r, "token");
    reward_close(r);
    setenv("DRPO_TEST_TOKEN", "wrong", 1);
    r = open_spec(spec);
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    assert_non_null(strstr(err.text, "HTTP status 401: who are you?"));
    assert_null(strstr(err.text, "hidden"));
    reward_close(r);
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/score?of=pictures?images=rgb&workers=4", port);
    r = open_spec(spec);
    expect_good(r, "a query of its own, four connections");
    reward_close(r);
    child_stop(&server, 0);
    r = open_spec("http://127.0.0.1:1/?retries=1&backoff=0.01");
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    if (!strstr(err.text, "efused") && !strstr(err.text, "onnect")) fail_msg("%s", err.text);
    assert_non_null(strstr(err.text, "(2 attempts)"));
    reward_close(r);
}

/* ---- TLS ---- */

/* A certificate for 127.0.0.1 that signs itself, in FOLDER/NAME.pem, the key in front of it. */
static void make_certificate(const char *name) {
    char command[1200];
    fresh_folder();
    snprintf(command, sizeof command,
             "cd " FOLDER " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
             "-subj /CN=%s -addext subjectAltName=IP:127.0.0.1 -keyout %s.key -out %s.crt 2>%s.log && "
             "cat %s.key %s.crt >%s.pem",
             name, name, name, name, name, name, name);
    if (system(command) != 0) fail_msg("openssl made no certificate, see " FOLDER "/%s.log", name);
}

static void expect_untrusted(const char *spec, const char *mend) {
    float scores[COUNT];
    Error err = {0};
    Reward *r = open_spec(spec);
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    if (!strstr(err.text, "reward https://") || !strstr(err.text, "not trusted: ") || !strstr(err.text, mend))
        fail_msg("%s", err.text);
    for (int k = 0; k < COUNT; k++) assert_true(scores[k] == 0);
    reward_close(r);
}

static void test_only_trusted_servers_are_asked(void **state) {
    (void)state;
    Child server;
    char spec[512];
    Reward *r = NULL;
    Error err = {0};
    unsetenv("SSL_CERT_FILE");
    make_certificate("server");
    make_certificate("other");
    const int port = start_speaking(&server, "https", "ok");
    snprintf(spec, sizeof spec, "https://127.0.0.1:%d/?images=rgb&retries=0", port);
    expect_untrusted(spec, "?ca=FILE.pem");
    setenv("SSL_CERT_FILE", FOLDER "/server.crt", 1);
    r = open_spec(spec);
    expect_good(r, "SSL_CERT_FILE");
    reward_close(r);
    setenv("SSL_CERT_FILE", FOLDER "/other.crt", 1);
    snprintf(spec, sizeof spec, "https://127.0.0.1:%d/?images=rgb&retries=0&workers=2&ca=" FOLDER "/server.crt", port);
    r = open_spec(spec);
    expect_good(r, "?ca=");
    reward_close(r);
    unsetenv("SSL_CERT_FILE");
    snprintf(spec, sizeof spec, "https://127.0.0.1:%d/?images=rgb&retries=0&ca=" FOLDER "/other.crt", port);
    expect_untrusted(spec, "does ?ca=");
    snprintf(spec, sizeof spec, "https://localhost:%d/?images=rgb&retries=0&ca=" FOLDER "/server.crt", port);
    expect_untrusted(spec, "by a name that its certificate holds");
    assert_int_equal(reward_open("https://localhost/?ca=" FOLDER "/none.crt", NULL, 0, &r, &err), DRPO_E_USAGE);
    assert_non_null(strstr(err.text, "none.crt"));
    error_clear(&err);
    assert_int_equal(reward_open("http://localhost/?ca=" FOLDER "/server.crt", NULL, 0, &r, &err), DRPO_E_USAGE);
    child_stop(&server, 0);
}

static void test_a_server_without_tls(void **state) {
    (void)state;
    Child server;
    char spec[256];
    float scores[COUNT];
    Error err = {0};
    snprintf(spec, sizeof spec, "https://127.0.0.1:%d/?images=rgb&retries=0", start_server(&server, "ok"));
    Reward *r = open_spec(spec);
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    if (!strstr(err.text, "does it speak https?")) fail_msg("%s", err.text);
    reward_close(r);
    child_stop(&server, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_several_workers),
        cmocka_unit_test(test_workers_know_their_number),
        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_a_connection_stays_open),
        cmocka_unit_test(test_tokens_and_names),
        cmocka_unit_test(test_only_trusted_servers_are_asked),
        cmocka_unit_test(test_a_server_without_tls),
    };
    setenv("no_proxy", "*", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
