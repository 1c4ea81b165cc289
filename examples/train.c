/* Trains the embedded generator toward a reward that is a C function: pictures with much red score high. Stops after 30
 * seconds at most; the run is saved and can be resumed.
 *
 *     example_train [RUN [STEPS]] */
#include <stdio.h>
#include <time.h>

#include "drpo.h"

static int red(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
               int width, float *scores) {
    (void)user;
    (void)prompt;
    (void)metadata;
    long pixels = (long)height * width;
    for (int i = 0; i < count; i++) {
        double sum = 0;
        for (const uint8_t *p = rgb + 3 * pixels * i, *end = p + 3 * pixels; p < end; p += 3)
            sum += p[0] - (p[1] + p[2]) / 2.0;
        scores[i] = (float)(sum / (255.0 * (double)pixels));
    }
    return 0;
}

static void on_progress(void *user, const drpo_progress *p) {
    (void)user;
    printf("%d/%d: reward %.4f, %.1f images/s\n", p->step, p->steps, p->reward, p->images_per_second);
}

static int on_cancelled(void *user) { return time(NULL) - *(const time_t *)user > 30; }

int main(int argc, char **argv) {
    time_t start = time(NULL);
    drpo_callbacks callbacks = {.progress = on_progress, .cancelled = on_cancelled, .user = &start};
    drpo_config *c = drpo_config_new(DRPO_TRAIN);
    int code = c ? drpo_config_reward(c, "red", red, NULL) : DRPO_E_MEMORY;
    if (code == 0) code = drpo_config_set(c, "reward", "callback:red");
    if (code == 0) code = drpo_config_set(c, "out", argc > 1 ? argv[1] : "runs/red");
    if (code == 0) code = drpo_config_set(c, "steps", argc > 2 ? argv[2] : "10");
    if (code == 0) code = drpo_config_set(c, "candidates", "8");
    if (code == 0) code = drpo_config_set(c, "prompts-per-step", "4");
    if (code == 0) code = drpo_config_set(c, "eval-every", "0");
    if (code == 0) code = drpo_run(c, &callbacks);
    if (code < 0) fprintf(stderr, "%s: %s\n", drpo_error_text(code), drpo_config_error(c));
    drpo_config_free(c);
    return code < 0 && code != DRPO_E_CANCELLED;
}
