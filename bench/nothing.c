/* A plugin that does nothing, for measuring the way to it (bench/rewards.sh). */
#include <string.h>

#include "drpo_reward.h"

int drpo_reward_open(int abi, const char *options, void **state, char *error, size_t error_size) {
    (void)options, (void)error, (void)error_size;
    *state = NULL;
    return abi != DRPO_REWARD_ABI;
}

int drpo_reward_score(void *state, const drpo_reward_request *request, float *scores, char *error, size_t error_size) {
    (void)state, (void)error, (void)error_size;
    memset(scores, 0, sizeof *scores * (size_t)request->count);
    return 0;
}

void drpo_reward_close(void *state) { (void)state; }
