/* Gauging: the gauges of one evaluation, tuned beside base at the same prompts and noises (step/gauges.h).
 *
 * Every number is a mean over the prompts, whether or not a reward could score them; ratios are means over means. Of
 * features there are several keys, each on a scale of its own: their values are averaged, and so are their ratios. */
#ifndef DRPO_TRAIN_GAUGING_H
#define DRPO_TRAIN_GAUGING_H

#include <jansson.h>

#include "format/tfevents.h"
#include "step/probe.h"

typedef struct Gauging Gauging;

/* Of `prompts` prompts with so many pictures each. */
int gauging_new(Step *s, int prompts, int pictures, size_t latent_count, uint64_t seed, Gauging **out, Error *err);
void gauging_free(Gauging *g);
size_t gauging_records(const Gauging *g); /* bytes that are allocated and not touched before the first evaluation */
/* What was drawn of prompt i; latents [n,C,h,w]. The base comes before the tuned model, and stays. */
int gauging_base(Gauging *g, int i, const Prompt *prompt, const float *latents, const Pictures *pictures, Error *err);
/* `base` [n,H,W,3]: its pictures. */
int gauging_tuned(Gauging *g, int i, const Prompt *prompt, const float *latents, const Pictures *pictures,
                  const uint8_t *base, Error *err);

/* {"ratio": {NAME}, "distance": {"latent", "pixels"}, NAME: {"base", "tuned"}}, NAME being diversity,
 * feature_diversity, saturation, high_frequency; null: not measured. NULL when out of memory. */
json_t *gauging_json(const Gauging *g);
int gauging_events(const Gauging *g, long step, TfEvents *events, Error *err);
/* "diversity x0.93, saturation x1.20, high frequency x0.98, distance 0.31" */
void gauging_text(const Gauging *g, char *text, size_t size);

#endif
