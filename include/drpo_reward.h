/* drpo_reward: the three functions of a shared object that is a reward, `--reward plugin:PATH.so`.
 *
 *     cc -shared -fPIC -O2 -I include -o taste.so taste.c
 *     drpo train --reward 'plugin:./taste.so?strength=2' ...
 *
 * The functions run inside drpo: a crash ends the run, so a reward that may crash is better an `exec:` program. They
 * are called by one thread at a time, though not always the same, and must neither exit nor change signal handlers. */
#ifndef DRPO_REWARD_H
#define DRPO_REWARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DRPO_REWARD_ABI 1

#if defined(__GNUC__)
#define DRPO_REWARD_EXPORT __attribute__((visibility("default")))
#else
#define DRPO_REWARD_EXPORT
#endif

/* Pictures of one prompt. Everything is the caller's and valid during the call. */
typedef struct drpo_reward_request {
    const char *prompt;   /* UTF-8 */
    const char *metadata; /* the prompt's line of a .jsonl file, or NULL */
    const uint8_t *rgb;   /* [count,height,width,3], 8-bit */
    int count, height, width;
} drpo_reward_request;

/* Once. `abi` is the caller's DRPO_REWARD_ABI: refuse another than yours. `options`: what stands behind '?' in the
 * specification and drpo does not know, "key=value&key=value", "" when there is none. *state is handed to the other
 * functions. Returns 0, or another value with a line for people in `error`. */
DRPO_REWARD_EXPORT int drpo_reward_open(int abi, const char *options, void **state, char *error, size_t error_size);
/* Writes request->count finite scores, higher is better. The same picture must get the same score. Returns 0, or
 * another value with a line for people in `error`. */
DRPO_REWARD_EXPORT int drpo_reward_score(void *state, const drpo_reward_request *request, float *scores, char *error,
                                         size_t error_size);
/* Once, at the end, if open returned 0. */
DRPO_REWARD_EXPORT void drpo_reward_close(void *state);

#ifdef __cplusplus
}
#endif
#endif
