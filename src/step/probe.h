/* Probe: how far pictures of one prompt lie apart in the run's own features (--features), from finished latents.
 * Outside the update: training's evaluations. It shares maps, weights and memory with the update. */
#ifndef DRPO_STEP_PROBE_H
#define DRPO_STEP_PROBE_H

#include "step/step.h"

typedef struct Probe Probe;

/* For at most `count` pictures at a time; *out NULL where the method looks at no features. The step outlives it. */
int probe_new(Step *s, int count, Probe **out, Error *err);
void probe_free(Probe *p);
int probe_keys(const Probe *p);       /* 0 for NULL */
size_t probe_records(const Probe *p); /* bytes it has allocated beside the activations; 0 for NULL */
/* mean [keys]: for each key, the mean pairwise distance (gauges.h) of latents [count,C,h,w]. Maps that draw random
 * numbers draw those of `key`, in the same way for every call. */
int probe_run(Probe *p, const char *prompt, RngKey key, const float *latents, int count, double *mean, Error *err);

#endif
