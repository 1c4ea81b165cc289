/* Candidates: the host-side record of one prompt's K candidates, filled stage by stage during an update. */
#ifndef DRPO_STEP_CANDIDATES_H
#define DRPO_STEP_CANDIDATES_H

#include "base/rng.h"
#include "model/generator_pass.h"
#include "step/step_types.h"

typedef struct Candidates {
    int count;           /* K */
    size_t latent_count; /* C*h*w */
    int height, width;   /* of the pictures */
    float *noise;        /* [K,C,h,w] */
    float *latents;      /* [K,C,h,w] clean latents of the policy */
    uint8_t *rgb;        /* [K,H,W,3] */
    float *raw;          /* [rewards,K] */
    double *score;       /* [K] ensemble */
    int rewards;         /* that made it: one keeps its raw scale */
    RngKey draw;         /* of this prompt and update, for what a method draws */
    Selection selection;
    FeatureSet feature[MAX_FEATURE_KEYS];
    int features;
    void *block; /* owner of all arrays above */
    size_t bytes;
} Candidates;

/* Sizes come from the planned policy pass; one allocation. */
int candidates_allocate(Candidates *c, int count, size_t latent_count, int height, int width,
                        const GeneratorPass *policy, Error *err);
void candidates_free(Candidates *c);

/* Mean pairwise RMS distance of the latents. */
double candidates_diversity(const Candidates *c);

#endif
