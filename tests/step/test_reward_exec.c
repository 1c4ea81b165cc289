/* Rewards that are child processes, with all their faults. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "step/reward_worker.h"

static void expect_fault(const char *spec, const char *options, const char *word) {
    Reward *r = open_exec(spec, options);
    float scores[COUNT];
    Error err = {0};
    const double start = clock_seconds();
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
    if (!strstr(err.text, "reward exec '")) fail_msg("'%s' does not name the command", err.text);
    reward_close(r);
    assert_true(clock_seconds() - start < 6);
}

/* What the request holds, checked in the worker: prompt, metadata, sizes and the very bytes of the pictures. */
static const char *const CHECKING_WORKER =
    "import sys, json, base64, zlib, os\n"
    "print('loading'); print(json.dumps({'status': 'ready'}), flush=True)\n"
    "def png(b):\n"
    "    assert b[:8] == b'\\x89PNG\\r\\n\\x1a\\n'\n"
    "    w, h, depth, kind = int.from_bytes(b[16:20], 'big'), int.from_bytes(b[20:24], 'big'), b[24], b[25]\n"
    "    assert (w, h, depth, kind) == (5, 4, 8, 2), (w, h, depth, kind)\n"
    "    return b\n"
    "for line in sys.stdin:\n"
    "    q = json.loads(line)\n"
    "    assert q['prompt'] == 'a \"quoted\"\\nprompt \\u00e9', q['prompt']\n"
    "    assert q['metadata'] == {'tag': 'counting', 'include': []}\n"
    "    assert (q['count'], q['width'], q['height']) == (3, 5, 4)\n"
    "    forms = [k for k in ('images_b64', 'rgb_b64', 'paths') if k in q]\n"
    "    assert len(forms) == 1\n"
    "    if forms == ['rgb_b64']:\n"
    "        raw = base64.b64decode(q['rgb_b64'])\n"
    "        assert raw == bytes(10 * (k // 60) + k % 60 for k in range(180))\n"
    "    elif forms == ['images_b64']:\n"
    "        assert len([png(base64.b64decode(t)) for t in q['images_b64']]) == 3\n"
    "    else:\n"
    "        assert len([png(open(p, 'rb').read()) for p in q['paths']]) == 3\n"
    "    print('a log line'); print(json.dumps({'scores': [0.5, -1, 2e3]}), flush=True)\n";

static void test_request_and_reply(void **state) {
    (void)state;
    const char *const forms[] = {"", "?images=png", "?images=rgb", "?images=paths&name=my-taste"};
    for (int k = 0; k < 4; k++) {
        Reward *r = open_exec(worker("python3", "checking.py", CHECKING_WORKER), forms[k]);
        assert_string_equal(r->name, k == 3 ? "my_taste" : "exec_checking");
        float scores[COUNT];
        Error err = {0};
        for (int again = 0; again < 3; again++) {
            if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
            assert_true(scores[0] == 0.5f && scores[1] == -1 && scores[2] == 2000);
        }
        reward_close(r);
    }
}

/* The two examples that the documentation shows. */
static void test_examples(void **state) {
    (void)state;
    enum { SIDE = 16, BYTES = SIDE * SIDE * 3 };
    uint8_t rgb[3 * BYTES];
    memset(rgb, 230, sizeof rgb); /* the first picture stays empty */
    for (int k = 1; k < 3; k++)
        for (int y = 4; y < 12; y++)
            for (int x = 4; x < 12; x++) {
                uint8_t *p = rgb + k * BYTES + (y * SIDE + x) * 3;
                p[0] = k == 1 ? 204 : 0;
                p[1] = (uint8_t)(x * y);
                p[2] = k == 1 ? 51 : 255;
            }
    const Pictures pictures = {rgb, 3, SIDE, SIDE};
    const Prompt prompt = {"a", NULL, NULL};
    float scores[3];
    Error err = {0};
    Reward *r = open_exec("exec:python3 " SOURCE_DIR "/examples/rewards/warm.py", "?images=rgb");
    assert_string_equal(r->name, "exec_warm");
    if (reward_score(r, &prompt, &pictures, scores, NULL, &err) < 0) fail_msg("%s", err.text);
    assert_true(scores[0] == -1 && fabs(scores[1] - 0.6) < 1e-6 && fabs(scores[2] + 1) < 1e-6);
    reward_close(r);
    r = open_exec("exec:sh " SOURCE_DIR "/examples/rewards/simple.sh", "?images=paths");
    for (int again = 0; again < 2; again++)
        if (reward_score(r, &prompt, &pictures, scores, NULL, &err) < 0) fail_msg("%s", err.text);
    assert_true(scores[0] < 0 && scores[0] > scores[1]);
    reward_close(r);
}

static void test_a_shell_worker_without_handshake(void **state) {
    (void)state;
    Reward *r = open_exec(worker("sh", "plain.sh", "while read -r line; do echo '{\"scores\":[1,2,3]}'; done\n"), "");
    float scores[COUNT];
    Error err = {0};
    if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    assert_true(scores[2] == 3);
    reward_close(r);
}

static void test_faults_in_replies(void **state) {
    (void)state;
    expect_fault(worker("sh", "nan.sh", "read l; echo '{\"scores\":[1,NaN,3]}'; cat >/dev/null\n"), "",
                 "NaN and Infinity");
    expect_fault(worker("sh", "null.sh", "read l; echo '{\"scores\":[1,null,3]}'; cat >/dev/null\n"), "",
                 "score 2 of 3");
    expect_fault(worker("sh", "inf.sh", "read l; echo '{\"scores\":[1,2,1e60]}'; cat >/dev/null\n"), "",
                 "score 3 of 3");
    expect_fault(worker("sh", "few.sh", "read l; echo '{\"scores\":[1,2]}'; cat >/dev/null\n"), "", "2 scores for 3");
    expect_fault(worker("sh", "form.sh", "read l; echo '{\"scores\":7}'; cat >/dev/null\n"), "", "not a list");
    expect_fault(worker("sh", "torn.sh", "read l; echo '{\"scores\":[1,2'; cat >/dev/null\n"), "", "not JSON");
    expect_fault(worker("sh", "told.sh", "read l; echo '{\"error\":\"out of paint\"}'; cat >/dev/null\n"), "",
                 "out of paint");
    expect_fault(worker("sh", "huge.sh", "read l; head -c 3000000 /dev/zero | tr '\\0' 1; cat >/dev/null\n"), "",
                 "longer than 1 MiB");
    expect_fault(worker("sh", "chat.sh", "read l; yes hello; cat >/dev/null\n"), "", "no reply");
}

static void test_faults_of_the_process(void **state) {
    (void)state;
    expect_fault(worker("sh", "crash.sh", "read l; echo 'cannot find weights' >&2; exit 3\n"), "",
                 "exited with status 3");
    expect_fault(worker("sh", "crash2.sh", "read l; echo 'cannot find weights' >&2; exit 3\n"), "",
                 "cannot find weights");
    expect_fault(worker("sh", "killed.sh", "read l; kill -9 $$\n"), "", "by signal 9");
    expect_fault("exec:/nonexistent/program", "", "status 127");
    expect_fault(worker("sh", "unread.sh", "exit 0\n"), "", "ended without a reply");
    expect_fault(worker("sh", "hang.sh", "trap '' TERM; while :; do sleep 1; done\n"), "?timeout=0.3&ready_timeout=0.2",
                 "within 0.5 s");
    expect_fault(worker("sh", "late.sh", "echo '{\"status\":\"ready\"}'; sleep 60\n"), "?timeout=0.4", "within 0.4 s");
    expect_fault(worker("sh", "half.sh", "printf '{\"scores\":[1,'; sleep 60\n"), "?timeout=0.2&ready_timeout=0.2",
                 "within");
}

static void test_a_flood_of_stderr_does_not_block(void **state) {
    (void)state;
    const char *body = "import sys, json\n"
                       "for line in sys.stdin:\n"
                       "    sys.stderr.write('x' * 1000000 + ' the last words'); sys.stderr.flush()\n"
                       "    print(json.dumps({'scores': [1, 2, 3]}), flush=True)\n";
    Reward *r = open_exec(worker("python3", "flood.py", body), "?timeout=20");
    float scores[COUNT];
    Error err = {0};
    for (int k = 0; k < 2; k++)
        if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    reward_close(r);
    expect_fault(worker("sh", "wordy.sh",
                        "read l; head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the last words >&2; exit 1\n"),
                 "", "the last words");
}

/* A large request to a worker that replies while it has not read: neither side may wait for the other. */
static void test_a_worker_that_talks_before_it_reads(void **state) {
    (void)state;
    enum { BIG = 512 };
    uint8_t *rgb = calloc(COUNT, BIG * BIG * 3);
    const Pictures pictures = {rgb, COUNT, BIG, BIG};
    const char *body = "import sys\n"
                       "for k in range(9000): print('chatter ' * 20)\n"
                       "sys.stdout.flush()\n"
                       "line = sys.stdin.readline()\n"
                       "assert len(line) > 3 * 512 * 512 * 4 - 100\n"
                       "print('{\"scores\": [0, 0, 1]}', flush=True)\n"
                       "sys.stdin.read()\n";
    Reward *r = open_exec(worker("python3", "talker.py", body), "?images=rgb");
    float scores[COUNT];
    Error err = {0};
    if (reward_score(r, &(Prompt){"a", NULL, NULL}, &pictures, scores, NULL, &err) < 0) fail_msg("%s", err.text);
    assert_true(scores[2] == 1);
    reward_close(r);
    free(rgb);
}

static void test_a_slow_start_has_its_own_patience(void **state) {
    (void)state;
    const char *spec =
        worker("sh", "slow.sh",
               "sleep 0.7; echo '{\"status\":\"ready\"}'; while read -r l; do echo '{\"scores\":[1,2,3]}'; done\n");
    Reward *r = open_exec(spec, "?timeout=0.3&ready_timeout=5");
    float scores[COUNT];
    Error err = {0};
    if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    reward_close(r);
}

static void test_a_broken_worker_is_started_again(void **state) {
    (void)state;
    unlink(TEST_TMP "/came_before");
    const char *body = "read -r l; if [ -e " TEST_TMP
                       "/came_before ]; then echo '{\"scores\":[1,2,3]}'; cat >/dev/null; else touch " TEST_TMP
                       "/came_before; exit 1; fi\n";
    Reward *r = open_exec(worker("sh", "second.sh", body), "");
    float scores[COUNT];
    Error err = {0};
    assert_int_equal(score(r, scores, &err), DRPO_E_REWARD);
    if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    assert_true(scores[1] == 2);
    reward_close(r);
}

static long read_pid(const char *path) {
    long pid = 0;
    for (int k = 0; k < 200 && !pid; k++) {
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%ld", &pid) != 1) pid = 0;
        if (f) fclose(f);
        usleep(10000);
    }
    return pid;
}

/* A process that is gone, or only waits for its parent to take notice. */
static bool is_gone(long pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    for (int k = 0; k < 100; k++) {
        FILE *f = fopen(path, "r");
        if (!f) return true;
        const int got = fscanf(f, "%*d %*s %c", &state);
        fclose(f);
        if (got == 1 && state == 'Z') return true;
        usleep(10000);
    }
    return false;
}

static void test_closing_leaves_nothing_behind(void **state) {
    (void)state;
    unlink(TEST_TMP "/grandchild");
    const char *body =
        "sleep 300 & echo $! > " TEST_TMP "/grandchild; while read -r l; do echo '{\"scores\":[1,2,3]}'; done\n";
    Reward *r = open_exec(worker("sh", "family.sh", body), "");
    float scores[COUNT];
    Error err = {0};
    if (score(r, scores, &err) < 0) fail_msg("%s", err.text);
    const long pid = read_pid(TEST_TMP "/grandchild");
    assert_true(pid > 1 && kill((pid_t)pid, 0) == 0);
    const double start = clock_seconds();
    reward_close(r);
    assert_true(clock_seconds() - start < 2); /* it ends by itself when its input closes */
    assert_true(is_gone(pid));
}

static void test_signals_stay_as_they_were(void **state) {
    (void)state;
    struct sigaction before, after;
    sigset_t mask;
    sigaction(SIGPIPE, NULL, &before);
    expect_fault(worker("sh", "deaf.sh", "exec 0<&-; sleep 0.3; exit 4\n"), "",
                 "status 4"); /* our write meets a closed pipe */
    sigaction(SIGPIPE, NULL, &after);
    assert_true(before.sa_handler == after.sa_handler);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    assert_false(sigismember(&mask, SIGPIPE));
    sigpending(&mask);
    assert_false(sigismember(&mask, SIGPIPE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_and_reply),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_a_shell_worker_without_handshake),
        cmocka_unit_test(test_faults_in_replies),
        cmocka_unit_test(test_faults_of_the_process),
        cmocka_unit_test(test_a_flood_of_stderr_does_not_block),
        cmocka_unit_test(test_a_worker_that_talks_before_it_reads),
        cmocka_unit_test(test_a_slow_start_has_its_own_patience),
        cmocka_unit_test(test_a_broken_worker_is_started_again),
        cmocka_unit_test(test_closing_leaves_nothing_behind),
        cmocka_unit_test(test_signals_stay_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
