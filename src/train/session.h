/* Session: what every verb that computes opens first: the model, a backend, prompts, adapters. */
#ifndef DRPO_TRAIN_SESSION_H
#define DRPO_TRAIN_SESSION_H

#include "step/noise.h"
#include "step/step.h"
#include "train/job.h"

typedef struct Session {
    Arena *arena;
    Pipeline *pipeline;
    Backend *backend;
    struct TextPass *text;   /* after session_defer */
    const char *text_folder; /* where encoded prompts are kept; NULL: nowhere, the text encoders stay in memory */
    int threads;
} Session;

/* --model, --backend, --threads. On failure everything opened is closed again by session_close. */
int session_open(Session *s, const Config *c, Error *err);
/* From now on memory is filled only by memory_commit (memory.h). --text-cache decides about encoded prompts. */
int session_defer(Session *s, const Config *c, Error *err);
void session_close(Session *s); /* fine after a failed open */

/* What --dtype, --exact and --threads ask of the cpu backend on a processor with `unit` (backend_cpu_bf16). */
int session_arithmetic(const Config *c, Bf16Unit unit, CpuOptions *out, Error *err);
/* A run's --dtype auto becomes what it is here, so that config.yaml says it and another machine goes on with the same:
 * bf16, or for a resumed run that does not say so, float32. Where auto is float32, nothing is changed. */
int session_settle_dtype(Config *c, Bf16Unit unit, Error *err);

/* Reads a prompt file found as an asset or path. `option` names the flag for messages; prompts too long for the text
 * encoder are announced. `pipeline` may be NULL. */
int session_prompts(Arena *a, Pipeline *pipeline, const char *option, const char *name, const Log *log, PromptList *out,
                    const char **path, Error *err);
/* One warning when the text encoder will cut some of the prompts, an error for one that is not UTF-8. `where` they
 * stand is for messages. */
int session_check_prompts(Arena *a, Pipeline *p, const PromptList *prompts, const char *where, const Log *log,
                          Error *err);
/* At most `limit` prompts (0: all), round-robin over the tags in order of first appearance; items in the arena. */
int prompts_spread(const PromptList *from, size_t limit, Arena *a, PromptList *out, Error *err);

/* Options of one update as --candidates, --radii, ... say; strings live in the arena. */
int session_step_options(const Session *s, const Config *c, StepOptions *out, Error *err);
/* What is learned from scored candidates: --method, --objective and what belongs to them. */
void session_learn_options(const Config *c, LearnOptions *out);
/* --mode and what belongs to it. */
int session_offline_options(const Config *c, Arena *a, OfflineOptions *out, Error *err);
/* --rng and --noise, and for training --neighbour-noise. per_image = C*h*w. */
int session_noise(const Config *c, uint64_t seed, size_t per_image, bool training, NoiseSource **out, Error *err);
/* --generator, as it is listed there: whose noise one generator of PyTorch draws. */
typedef enum Generator { GENERATOR_PICTURE, GENERATOR_PROMPT, GENERATOR_RUN } Generator;
/* Noise of `per_prompt` pictures for each of `prompts` as --generator draws it; refused where --rng has no generator.
 */
int session_generator(const Config *c, NoiseSource *noise, size_t prompts, size_t per_prompt, Error *err);

/* A fresh adapter on the layers of --lora-targets, initialised from --seed. */
int adapter_create(Pipeline *p, const Config *c, Adapter **out, Error *err);
/* "PATH[:SCALE]": file, PEFT folder, checkpoint or run (its final/ folder); several, separated by commas, are added. */
int adapter_open(Pipeline *p, const char *spec, Adapter **out, Error *err);
/* The folder or file of an adapter inside PATH, which may be a run; NULL with *err set when there is none. */
const char *adapter_locate(const char *path, Arena *a, Error *err);
/* The model that a PEFT adapter names as its base: a folder or repository id; NULL when it names none. */
const char *adapter_base(const char *spec, Arena *a);
/* What --model, --revision, --variant and --tokenizer say; without --model, the base of the adapter `lora` (may be "")
 * when it is there. */
int session_model(const Config *c, const char *lora, Arena *a, ModelChoice *out, Error *err);
/* A folder, file, asset or repository id as users write it. */
int model_find(const char *name, const char *revision, Arena *a, ModelChoice *out, Error *err);
/* What follows the first of several, "PATH[:SCALE],PATH[:SCALE],..."; NULL: nothing. */
const char *adapter_rest(const char *list);
/* Separates "PATH:SCALE", the first of several. */
const char *adapter_split(const char *spec, float *scale, Arena *a);

#endif
