/* What every test needs: cmocka, a fresh folder for temporary files, and checks that print the error's text. */
#ifndef DRPO_TESTS_CHECK_H
#define DRPO_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* cmocka calls a macro fail(), as the library calls its function. */
#undef fail
#undef fail_msg
#define fail_msg(...)                                                                                                  \
    do {                                                                                                               \
        print_error(__VA_ARGS__);                                                                                      \
        print_error("\n");                                                                                             \
        _fail(__FILE__, __LINE__);                                                                                     \
    } while (0)

#include "base/file.h"

/* An empty folder of this name below TEST_TMP; `path` is written and returned. */
static inline const char *fresh_dir(const char *name, char path[512]) {
    Error err = {0};
    snprintf(path, 512, "%s/%s", TEST_TMP, name);
    if (dir_remove(path, &err) < 0 || dir_make(path, &err) < 0) fail_msg("%s", err.text);
    return path;
}

/* "folder/name"; the text stays for the next 31 calls. */
static inline const char *in_dir(const char *folder, const char *name) {
    static char paths[32][1024];
    static unsigned next;
    char joined[1024]; /* `folder` may be one of `paths` */
    snprintf(joined, sizeof joined, "%s/%s", folder, name);
    return memcpy(paths[next++ % 32], joined, sizeof joined);
}

static inline void put_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) fail_msg("%s: cannot write", path);
}

static inline void put_text(const char *path, const char *text) { put_file(path, text, strlen(text)); }

#define assert_ok(call, err)                                                                                           \
    do {                                                                                                               \
        int code_ = (call);                                                                                            \
        if (code_ < 0) fail_msg("%s gave %d: %s", #call, code_, (err).text);                                           \
    } while (0)

/* The call must fail with `wanted` and a message that contains `part`; the error is cleared for the next check. */
#define assert_fails(call, wanted, part, err)                                                                          \
    do {                                                                                                               \
        int code_ = (call);                                                                                            \
        if (code_ != (wanted)) fail_msg("%s gave %d, not %d: %s", #call, code_, (int)(wanted), (err).text);            \
        if ((err).code != (wanted) || !strstr((err).text, part))                                                       \
            fail_msg("%s: message lacks '%s': %s", #call, part, (err).text);                                           \
        error_clear(&(err));                                                                                           \
    } while (0)

#endif
