/* Candidates: the host-side record of one prompt's K candidates, filled stage by stage during an update. */
#ifndef DRPO_STEP_CANDIDATES_H
#define DRPO_STEP_CANDIDATES_H

#include "base/rng.h"
#include "model/generator_pass.h"
#include "model/latent_pass.h"
#include "step/step_types.h"

/* What was drawn for a prompt in several rounds; candidate k of round r has number r*K + k. */
typedef struct Rollout {
    int rounds, width;   /* rounds that fit, of K each */
    int drawn;           /* candidates so far */
    float *noise;        /* [rounds*K,C,h,w] */
    float *raw;          /* [rewards,rounds*K] */
    double *score;       /* [rounds*K] */
    Selection selection; /* by these numbers */
} Rollout;

typedef struct Candidates {
    int count;                            /* K; with pools, while they are learned from, those chosen */
    size_t latent_count;                  /* C*h*w */
    int height, width;                    /* of the pictures */
    float *noise;                         /* [K,C,h,w] */
    float *latents;                       /* [K,C,h,w] clean latents of the policy */
    float *base;                          /* [K,C,h,w] of the base on the same noise; NULL without maps aside */
    uint8_t *rgb;                         /* [K,H,W,3] */
    float *raw;                           /* [rewards,K] */
    double *score;                        /* [K] ensemble */
    int rewards;                          /* that made it: one keeps its raw scale */
    RngKey draw;                          /* of this prompt and update, for what a method draws */
    int moving[MAX_CANDIDATES], n_moving; /* those that learn; n_moving 0: all */
    double *reward, *norm;                /* [K] of rewards with a gradient; its length. NULL: not used */
    float *reward_gradient;               /* [K,h*w,C] */
    Selection selection;                  /* by rows of the arrays above */
    Rollout rollout;                      /* rounds 0: there is one round, in the arrays above */
    FeatureSet feature[MAX_FEATURE_KEYS];
    int features, behind; /* all; those behind the generator: the first, and the last where it is the anchor */
    void *block;          /* owner of all arrays above */
    float *data;          /* owner of feature[].data */
    size_t bytes;
} Candidates;

/* What the features are sized by. */
typedef struct CandidatePasses {
    const GeneratorPass *policy;
    const LatentPass *aside; /* may be NULL */
    bool redraws;            /* anchors have features of their own */
    bool differentiates;     /* there is a gradient of the reward */
} CandidatePasses;

/* One allocation. rounds: of a rollout, 0 for none. */
int candidates_allocate(Candidates *c, int count, int rounds, size_t latent_count, int height, int width,
                        const CandidatePasses *passes, Error *err);
void candidates_free(Candidates *c);

/* The set that the generator's i-th key fills: the anchor is its last key and the last of all. */
FeatureSet *candidates_behind(Candidates *c, int i);

/* Mean pairwise RMS distance of the latents. */
double candidates_diversity(const Candidates *c);

#endif
