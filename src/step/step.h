/* Step: one DrPO update, the stages joined.
 *
 * For each prompt: K candidates from noise, decoded, scored, ranked; features of policy and reference; drift gradient
 * in closed form; back-propagated through features and generator in chunks into the LoRA gradients. Then clip and
 * AdamW. Memory does not grow with K. */
#ifndef DRPO_STEP_STEP_H
#define DRPO_STEP_STEP_H

#include "engine/backend.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "step/noise.h"
#include "step/optimize.h"
#include "step/reward/reward.h"

typedef struct StepOptions {
    int candidates, positives, negatives;
    double min_spread;
    bool spread_weight;   /* a prompt counts in proportion to select_spread, instead of all alike */
    int chunk;            /* candidates per pass through a network; 0: chosen by the memory budget */
    size_t memory_budget; /* bytes of activations of all prompts learned from at once, 0: 1 GiB, or what the given chunk
                             needs */
    int resolution;       /* pixels, 0: the model's own */
    bool released_x0;     /* the released trainer's four-digit constants */
    PoolOptions pools;
    const char *reward_decoder; /* a TAESD whose pictures the reward sees; NULL: the model's own decoder */
    int agreement_every;        /* updates between looks at what the model's own would have changed; the first update
                                   is looked at in any case, 0: it alone */
    const char *features;       /* "resnet:PATH?keys=a,b" or "latent?keys=..." ; several joined by '+' */
    DriftOptions drift;
    LearnOptions learn;
    OfflineOptions offline; /* all zero: online */
    bool mean_keys;         /* average over feature keys instead of their sum */
    int threads;
    int prompts; /* of one update, 0: one */
    int at_once; /* prompts on their way at the same time, as far as memory allows; 0: as many as threads. More than
                    threads keep them busy while rewards score */
} StepOptions;

typedef struct Step Step;

/* Builds and plans every graph; the adapter must be allocated. All borrowed objects outlive the step. */
int step_new(Pipeline *p, Backend *b, Adapter *a, const StepOptions *o, Step **out, Error *err);
void step_free(Step *s);

/* Called for every prompt of an update in their order; a negative return ends the update. */
typedef int (*StepObserver)(void *user, const ScoredPrompt *p, Error *err);
void step_observe(Step *s, StepObserver observer, void *user);

/* One update: `prompts` [n] with their indices in the prompt file; number of the update from 0 (noise key). Gradients
 * are averaged over the prompts used (by their weights); when none is used the adapter stays as it is. */
int step_update(Step *s, const Prompt *prompts, int n, long number, NoiseSource *noise, RewardSet *rewards,
                Optimizer *o, StepStats *stats, Error *err);
/* The same without the optimizer: adds d(loss)/d(values) to grad [adapter->count] (tests, gradient dumps). */
int step_gradient(Step *s, const Prompt *prompts, int n, long number, NoiseSource *noise, RewardSet *rewards,
                  float *grad, StepStats *stats, Error *err);
/* Gradient of the prompts of the last update before clipping, [adapter->count]. */
const float *step_last_gradient(const Step *s);

/* What a method carries from one update to the next, beside weights and moments: vggflow's bound on gradients. */
double step_method_state(const Step *s);
void step_set_method_state(Step *s, double state);

/* What an update takes, in bytes, and how it is divided. */
typedef struct StepPlan {
    size_t activations; /* blocks of all workers */
    size_t budgeted;    /* of them, what StepOptions.memory_budget limits: the passes with gradients */
    size_t mapped;      /* weights of feature maps that are read from their files */
    size_t records;     /* gradients, and what the drift and pictures take for a moment; not touched before an update */
    size_t per_candidate; /* latents, picture and features of one candidate in all workers; allocated already */
    int chunk, workers;   /* candidates per pass, prompts at once */
} StepPlan;
void step_plan(const Step *s, StepPlan *out);
/* Bytes of the activations of one worker if so many candidates went through at a time. */
int step_measure(const Step *s, int chunk, size_t *bytes, Error *err);
/* The largest block of the activations. Between two updates nothing of it is in use. */
typedef struct Scratch {
    void *memory;
    size_t bytes;
} Scratch;
Scratch step_scratch(const Step *s);

/* ---- sampling, shared by sample, eval and training's own evaluation ---- */
typedef struct Sampler Sampler;
/* `adapter` NULL: the base. batch: images per pass; fewer where pictures are large. */
int sampler_new(Pipeline *p, Backend *b, Adapter *a, int batch, int resolution, bool released_x0, Sampler **out,
                Error *err);
/* The same on memory of someone else, as far as that suffices; *scratch becomes the block that is used. */
int sampler_new_at(Pipeline *p, Backend *b, Adapter *a, int batch, int resolution, bool released_x0, Scratch *scratch,
                   Sampler **out, Error *err);
void sampler_free(Sampler *s);
/* count images of ONE prompt from noise [count,C,h,w]; latents [count,C,h,w] and rgb [count,H,W,3] may be NULL. */
int sampler_run(Sampler *s, const char *prompt, const float *noise, int count, float *latents, uint8_t *rgb,
                Error *err);
size_t sampler_noise_count(const Sampler *s); /* C*h*w */
size_t sampler_records(const Sampler *s);     /* bytes it has allocated beside its block of activations */
void sampler_size(const Sampler *s, int *height, int *width);

#endif
