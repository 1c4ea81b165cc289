/* Feature builder: the seam between passes and the frozen maps in which candidates are compared (step/feature).
 *
 * A pass hands over clean latents and what else a map may want to know; the builder appends nodes for every key. */
#ifndef DRPO_MODEL_FEATURE_BUILDER_H
#define DRPO_MODEL_FEATURE_BUILDER_H

#include "base/rng.h"
#include "model/text_inputs.h"

enum { MAX_FEATURE_DRAWS = 4 };

/* Random numbers of a map: an input of `rows` per candidate that is filled before each run. role 0: the policy's
 * candidates; others: the same candidates again, of the base or as anchors, for maps that draw anew each time. */
typedef struct FeatureDraw {
    Value node; /* [N,...] */
    void (*fill)(const void *map, RngKey key, int role, float *row);
    const void *map;
} FeatureDraw;

typedef struct FeatureInputs {
    Pipeline *pipeline;
    Value latents;     /* [N,C,h,w] */
    Value text, added; /* of the prompt; NULL unless the builder needs text, added also where the model has none */
    FeatureDraw draw[MAX_FEATURE_DRAWS];
    int draws;
} FeatureInputs;

/* Appends feature nodes [N,tokens,dim]; `out` has room for `count`. */
typedef struct FeatureBuilder {
    int (*build)(const void *maps, Build *b, FeatureInputs *in, Value *out, Error *err);
    const void *maps;
    int count;       /* feature keys */
    bool needs_text; /* some map looks at the prompt */
    bool draws;      /* some map draws random numbers */
} FeatureBuilder;

#endif
