/* A plugin that misbehaves as its option ?do= says. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drpo_reward.h"

#ifndef EMPTY_PLUGIN
int drpo_reward_open(int abi, const char *options, void **state, char *error, size_t error_size) {
    (void)abi, (void)error, (void)error_size;
    const char *const words[] = {"do=nan", "do=nothing", "do=refuse"};
    for (size_t k = 0; k < 3; k++)
        if (strcmp(options, words[k]) == 0) *state = (void *)words[k]; /* a literal lives as long as the library */
    return *state ? 0 : 1;
}

int drpo_reward_score(void *state, const drpo_reward_request *request, float *scores, char *error, size_t error_size) {
    const char *what = state;
    for (int k = 0; k < request->count && strcmp(what, "do=nan") == 0; k++) scores[k] = k ? 1 : NAN;
    if (strcmp(what, "do=refuse") != 0) return 0;
    snprintf(error, error_size, "no paint\nleft");
    return 9;
}

void drpo_reward_close(void *state) { (void)state; }
#endif
