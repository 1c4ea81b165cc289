/* `drpo bench reward` of a C callback that does nothing: callback [OPTION...], as after `drpo bench reward`. */
#include <stdio.h>
#include <string.h>

#include "drpo.h"

static int nothing(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                   int width, float *scores) {
    (void)user;
    (void)prompt;
    (void)metadata;
    (void)rgb;
    (void)height;
    (void)width;
    memset(scores, 0, sizeof *scores * (size_t)count);
    return 0;
}

static void say(void *user, int level, const char *text) {
    (void)user;
    fprintf(level == 2 ? stdout : stderr, "%s\n", text);
}

int main(int argc, char **argv) {
    drpo_callbacks callbacks = {.message = say};
    const char *const words[] = {"reward", "--reward", "callback:nothing"};
    drpo_config *c = drpo_config_new(DRPO_BENCH);
    int code = c ? drpo_config_reward(c, "nothing", nothing, NULL) : DRPO_E_MEMORY;
    if (code == 0) code = drpo_config_parse(c, 3, words);
    if (code == 0) code = drpo_config_parse(c, argc - 1, (const char *const *)argv + 1);
    if (code == 0) code = drpo_run(c, &callbacks);
    if (code < 0) fprintf(stderr, "%s: %s\n", drpo_error_text(code), drpo_config_error(c));
    drpo_config_free(c);
    return code < 0;
}
