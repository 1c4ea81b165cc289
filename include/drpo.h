/* drpo: finetune one-step text-to-image generators toward any reward with Drifting Preference Optimization.
 *
 *     drpo_config *c = drpo_config_new(DRPO_TRAIN);
 *     drpo_config_set(c, "model", "sd-turbo");  drpo_config_set(c, "reward", "exec:./score.py");
 *     if (drpo_run(c, &callbacks) < 0) fprintf(stderr, "%s\n", drpo_config_error(c));
 *     drpo_config_free(c);
 *
 * The only public header. Every verb of the command line is a drpo_config plus drpo_run(); drpo_model is for programs
 * that want images without files. Nothing here prints, exits or keeps global state. Functions that can fail return 0 or
 * a negative DRPO_E_* code; the matching text says what to mend. A handle may be used by one thread at a time. */
#ifndef DRPO_H
#define DRPO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DRPO_API __attribute__((visibility("default")))
#else
#define DRPO_API
#endif

#define DRPO_VERSION "0.1.0"

/* X(name, value, text). Input and usage errors make the command line exit with 2, the others with 1. */
#define DRPO_ERROR_MAP(X)                                                                                              \
    X(DRPO_E_USAGE, -1, "wrong option or value")                                                                       \
    X(DRPO_E_INPUT, -2, "missing, damaged or unsupported input")                                                       \
    X(DRPO_E_IO, -3, "reading or writing failed")                                                                      \
    X(DRPO_E_MEMORY, -4, "not enough memory")                                                                          \
    X(DRPO_E_REWARD, -5, "a reward failed")                                                                            \
    X(DRPO_E_NUMERIC, -6, "a value is not finite")                                                                     \
    X(DRPO_E_CANCELLED, -7, "stopped on request")                                                                      \
    X(DRPO_E_INTERNAL, -8, "internal error")

typedef enum drpo_error {
    DRPO_OK = 0,
#define DRPO_ERROR_ENUM(name, value, text) name = value,
    DRPO_ERROR_MAP(DRPO_ERROR_ENUM)
#undef DRPO_ERROR_ENUM
} drpo_error;

DRPO_API const char *drpo_error_text(int code); /* "wrong option or value", ... */
DRPO_API const char *drpo_version(void);

/* ---- jobs: what the command line runs
 * -------------------------------------------------------------------------------- */

typedef enum drpo_verb {
    DRPO_TRAIN,
    DRPO_SAMPLE,
    DRPO_SCORE,
    DRPO_EVAL,
    DRPO_INSPECT,
    DRPO_PLAN,
    DRPO_EXPORT,
    DRPO_REPORT,
    DRPO_BENCH,
    DRPO_DOCTOR,
    DRPO_REWARDS,
    DRPO_GENEVAL,
    DRPO_REPLAY,
    DRPO_COMPARE,
    DRPO_SWEEP,
    DRPO_PRETRAIN,
    DRPO_VERBS
} drpo_verb;

typedef struct drpo_config drpo_config;

DRPO_API drpo_config *drpo_config_new(drpo_verb verb); /* all defaults; NULL when out of memory */
DRPO_API void drpo_config_free(drpo_config *c);
/* `key` is a flag's name without dashes, '-' and '_' alike, aliases included ("learning_rate"). List keys append. */
DRPO_API int drpo_config_set(drpo_config *c, const char *key, const char *value);
DRPO_API const char *drpo_config_get(const drpo_config *c, const char *key); /* resolved text, NULL if unknown */
/* Flags as main() gets them, without program and verb: "--steps 40 --candidates=16 IMAGE...". */
DRPO_API int drpo_config_parse(drpo_config *c, int argc, const char *const *argv);
DRPO_API const char *drpo_config_error(const drpo_config *c); /* of the last failed call or drpo_run */
/* Help for one verb, from the same table; the caller frees it with free(). */
DRPO_API char *drpo_config_help(drpo_verb verb, const char *program);
/* Reference of every flag as Markdown (docs/flags.md is made by it); the caller frees it. */
DRPO_API char *drpo_config_reference(void);

typedef struct drpo_progress {
    int step, steps;          /* updates done, planned */
    double reward;            /* mean of the last update's candidates (training reward) */
    double images_per_second; /* candidates generated, scored and learned from */
    double seconds_left;
    const char *line; /* one ready line for people, no newline */
} drpo_progress;

/* Scores `count` images of one prompt: rgb [count,height,width,3] 8-bit, metadata: the prompt's JSON line or NULL.
 * Higher is better. Returns 0, or nonzero when it could not score. Called by one thread at a time, though not always
 * the one that called drpo_run. */
typedef int (*drpo_reward_fn)(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count,
                              int height, int width, float *scores);

typedef struct drpo_callbacks {
    void (*progress)(void *user, const drpo_progress *p); /* after every update; may be NULL */
    void (*message)(void *user, int level,
                    const char *text); /* 0 info, 1 warning, 2 a line of the verb's result (stdout) */
    int (*cancelled)(void *user);      /* nonzero: save and stop; may be NULL */
    void *user;
} drpo_callbacks;

/* Makes `--reward callback:NAME` mean this function. Call before drpo_run. */
DRPO_API int drpo_config_reward(drpo_config *c, const char *name, drpo_reward_fn fn, void *user);
DRPO_API int drpo_run(drpo_config *c, const drpo_callbacks *callbacks); /* callbacks may be NULL */

/* ---- images in memory
 * ------------------------------------------------------------------------------------------------ */

typedef struct drpo_model drpo_model;

/* `folder`: diffusers layout; `lora`: adapter file or folder, optionally ":scale", or NULL; `threads` 0:
 * OMP_NUM_THREADS, or one per core. `error` (at least 256 bytes, may be NULL) receives the text of a failure. */
DRPO_API int drpo_model_open(const char *folder, const char *lora, int threads, drpo_model **model, char *error,
                             size_t error_size);
DRPO_API void drpo_model_free(drpo_model *m);
DRPO_API int drpo_model_size(const drpo_model *m, int *height, int *width); /* of its images, in pixels */
/* `count` images of one prompt; image i uses seed + i. rgb [count,height,width,3] 8-bit, written by the call. */
DRPO_API int drpo_model_sample(drpo_model *m, const char *prompt, uint64_t seed, int count, uint8_t *rgb, char *error,
                               size_t error_size);

/* ---- the drift itself
 * ------------------------------------------------------------------------------------------------ */

typedef struct {
    const float *radii;
    int n_radii;
    int kernel; /* 0 laplacian 1 rbf 2 cosine */
    float w_pos, w_neg;
    int mask_negative_self;
} drpo_drift_options;

/* x [n,d], pos [p,d], neg [m,d] row-major f32; force, grad [n,d] may be NULL; returns 0 or a negative error code.
 * `grad` is d(loss)/dx of the mean squared drift loss, `loss` (may be NULL) its value. */
DRPO_API int drpo_drift(const float *x, size_t n, const float *pos, size_t p, const float *neg, size_t m, size_t d,
                        const drpo_drift_options *opt, float *force, float *grad, double *loss);

#ifdef __cplusplus
}
#endif
#endif
