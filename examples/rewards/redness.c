/* Likes red pictures, like redness.py, as a shared object inside drpo: the quickest way.
 *
 *     cc -shared -fPIC -O2 -I include -o redness.so examples/rewards/redness.c
 *     drpo train --reward 'plugin:./redness.so?strength=2' ... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drpo_reward.h"

int drpo_reward_open(int abi, const char *options, void **state, char *error, size_t error_size) {
    static const char known[] = "strength=";
    double *strength = malloc(sizeof *strength);
    char *end = "";
    if (!strength) return 1;
    *strength = 1;
    if (strncmp(options, known, strlen(known)) == 0) *strength = strtod(options + strlen(known), &end);
    if (abi == DRPO_REWARD_ABI && (!*options || (strncmp(options, known, strlen(known)) == 0 && !*end))) {
        *state = strength;
        return 0;
    }
    snprintf(error, error_size, "ABI %d, options '%s': this is ABI %d and takes ?strength=NUMBER", abi, options,
             DRPO_REWARD_ABI);
    free(strength);
    return 1;
}

int drpo_reward_score(void *state, const drpo_reward_request *request, float *scores, char *error, size_t error_size) {
    const size_t pixels = (size_t)request->height * (size_t)request->width;
    (void)error, (void)error_size;
    for (int k = 0; k < request->count; k++) {
        const uint8_t *p = request->rgb + 3 * pixels * (size_t)k;
        double red = 0, rest = 0;
        for (size_t i = 0; i < pixels; i++) {
            red += p[3 * i];
            rest += p[3 * i + 1] + p[3 * i + 2];
        }
        scores[k] = (float)(*(double *)state * ((red - rest / 2) / (255 * (double)pixels)));
    }
    return 0;
}

void drpo_reward_close(void *state) { free(state); }
