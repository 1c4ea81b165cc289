/* A few small pictures, and rewards that are child processes: their programs are written by the tests. */
#ifndef DRPO_TESTS_REWARD_WORKER_H
#define DRPO_TESTS_REWARD_WORKER_H

#include <string.h>

#include "base/file.h"
#include "check.h"
#include "step/reward/reward.h"

enum { COUNT = 3, HEIGHT = 4, WIDTH = 5, PICTURE = HEIGHT * WIDTH * 3 };

static inline Pictures some_pictures(uint8_t *rgb) {
    for (int k = 0; k < COUNT * PICTURE; k++) rgb[k] = (uint8_t)(10 * (k / PICTURE) + k % PICTURE);
    return (Pictures){rgb, COUNT, HEIGHT, WIDTH};
}

/* Writes a worker; returns the specification `exec:INTERPRETER path`. */
static inline const char *worker(const char *interpreter, const char *name, const char *body) {
    static char spec[1024];
    char path[512];
    Error err = {0};
    assert_int_equal(dir_make(TEST_TMP, &err), 0);
    snprintf(path, sizeof path, "%s/%s", TEST_TMP, name);
    if (file_write_atomic(path, body, strlen(body), &err) < 0) fail_msg("%s", err.text);
    snprintf(spec, sizeof spec, "exec:%s %s", interpreter, path);
    return spec;
}

static inline Reward *open_exec(const char *spec, const char *options) {
    char full[1200];
    Reward *r = NULL;
    Error err = {0};
    snprintf(full, sizeof full, "%s%s%cretries=0", spec, options, *options ? '&' : '?'); /* one attempt at a time */
    if (reward_open(full, NULL, 0, &r, &err) < 0) fail_msg("%s", err.text);
    return r;
}

static inline int score(Reward *r, float *scores, Error *err) {
    uint8_t rgb[COUNT * PICTURE];
    const Pictures pictures = some_pictures(rgb);
    const Prompt prompt = {"a \"quoted\"\nprompt \xc3\xa9", "tag", "{\"tag\": \"counting\", \"include\": []}"};
    error_clear(err);
    return reward_score(r, &prompt, &pictures, scores, NULL, err);
}

#endif
