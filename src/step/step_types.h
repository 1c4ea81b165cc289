/* What the stages of one update hand to each other. Stages include this file and never one another; step.c joins them.
 *
 *     prompt -> text -> noise -> generate -> decode -> reward -> select -> feature -> drift -> gradient -> optimize */
#ifndef DRPO_STEP_TYPES_H
#define DRPO_STEP_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "format/prompts.h" /* Prompt */

/* Pictures of one prompt, 8-bit RGB [count,height,width,3]. */
typedef struct Pictures {
    const uint8_t *rgb;
    int count, height, width;
} Pictures;

enum { MAX_CANDIDATES = 1024, MAX_REWARDS = 8, MAX_FEATURE_KEYS = 32, MAX_RADII = 8 };

/* Which candidates attract and which repel. */
typedef struct Selection {
    int n_pos, n_neg;
    int pos[MAX_CANDIDATES]; /* candidate indices, best first */
    int neg[MAX_CANDIDATES]; /* worst last */
    bool skip;               /* the scores say nothing: equal or not finite */
} Selection;

/* What a reward of 0 and 1 is learned from: candidates drawn in rounds until both sides have enough (step/pools.h). */
typedef struct PoolOptions {
    int rounds;    /* at most; 0: no pools, candidates are ranked */
    int positives; /* that a prompt needs at least; 0: as many as are wanted */
    enum { OPTIMIZE_BOTH, OPTIMIZE_POSITIVES, OPTIMIZE_NEGATIVES } optimize;
    uint64_t seed;
} PoolOptions;

/* How one prompt of an update was scored and chosen from, for whoever keeps records. */
typedef struct ScoredPrompt {
    int slot;                   /* of the update's prompts */
    int count, rewards;         /* candidates, 0: no reward could score them */
    const float *raw;           /* [rewards, stride] */
    size_t stride;              /* at least count */
    const Selection *selection; /* among all `count` */
} ScoredPrompt;

/* Options of the drift term. Defaults: the paper's SD-Turbo recipe. */
typedef struct DriftOptions {
    int kernel; /* 0 laplacian, 1 rbf, 2 cosine */
    float radii[MAX_RADII];
    int n_radii;
    float w_pos, w_neg;     /* preference term */
    float w_ref, w_ref_neg; /* reference term */
    float lambda_ref;       /* 0: no reference term */
    bool mask_reference;    /* mask the paired reference entry too (not in the paper) */
    float latent_l2;        /* weight of MSE(x0, reference x0), an anchor without a kernel; 0: none */
} DriftOptions;

/* How scores become attraction and repulsion. BINARY: the best and the worst, all alike, beside the reference term. The
 * others weigh candidates by exp(score / alpha) and have no separate reference term. */
typedef enum Objective {
    OBJECTIVE_BINARY,
    OBJECTIVE_AWR,          /* toward the weighted mean and the reference, away from the plain mean */
    OBJECTIVE_AWR_CONTRAST, /* away from the mean weighted by exp(-score / alpha) */
    OBJECTIVE_AWR_TOPK,     /* the same, over the best and the worst `fraction` only */
    OBJECTIVE_AWR_HARD,     /* the drift of BINARY with weights that differ within best and worst */
    OBJECTIVE_AWR_ADVSIGN   /* likewise; positives and negatives are those above and below the mean */
} Objective;

typedef struct SoftOptions {
    Objective objective;
    float alpha, clip; /* temperature of the scores; bound of score / alpha, 0: none */
    float fraction;    /* topk, hard: share of the candidates on either side */
    float force;       /* topk: factor of the force */
    float weight;      /* of the loss */
} SoftOptions;

/* What holds the policy near its base or its candidates apart, beside --latent-l2 and the reference term. */
typedef struct KeepOptions {
    float feature_l2;                  /* weight of MSE(features, reference features) */
    float diversity, diversity_margin; /* weight; share of the reference's own diversity that is asked for */
    float anchor, anchor_alpha, anchor_clip,
        anchor_min; /* weight and shape of the anchor that spares good candidates */
} KeepOptions;

typedef enum MethodKind { METHOD_DRPO, METHOD_DPO, METHOD_PSO, METHOD_GRPO, METHOD_DRAFT, METHOD_VGGFLOW } MethodKind;

/* Other methods for the same job (src/step/method). */
typedef struct MethodOptions {
    MethodKind kind;
    float dpo_beta;
    float pso_beta, pso_std, pso_clip;
    int grpo_anchors;
    float grpo_power, grpo_scale, grpo_advantage_clip, grpo_temperature;
    float draft_weight, draft_std; /* of the mean reward, of its spread */
    float vgg_scale, vgg_quantile; /* eta times reward scale; quantile that bounds gradients, 0: no bound */
    uint64_t seed;                 /* of what a method draws itself */
} MethodOptions;

/* Where a prompt's attractors and repellers come from: scored candidates, given pictures, candidates scored by their
 * distance to given pictures (offline.h), or rendered scenes, which take the place of the frozen reference
 * (scenes.h).
 */
typedef enum Mode { MODE_ONLINE, MODE_OFFLINE, MODE_OFFLINE_DISTANCE, MODE_SCENES } Mode;

static inline bool mode_reads_pairs(int mode) { return mode == MODE_OFFLINE || mode == MODE_OFFLINE_DISTANCE; }

typedef enum DistanceScore { DISTANCE_MARGIN, DISTANCE_SEPARATE, DISTANCE_COSINE } DistanceScore;
typedef struct DistanceOptions {
    DistanceScore score;
    bool normalize; /* z-scores over the candidates */
    bool nearest;   /* to the nearest picture instead of the mean over all */
    bool sum_keys;  /* instead of their mean */
} DistanceOptions;

typedef struct OfflineOptions {
    Mode mode;
    const char *folder; /* that relative paths of pictures begin at */
    bool sample;        /* latents drawn from the encoder's posterior instead of its mode */
    DistanceOptions distance;
    float fraction; /* distance: share of the candidates that moves, the best of them */
    bool anchors;   /* distance: given pictures attract and repel beside the selected candidates */
    bool reliable;  /* scenes: no scene contradicts its caption */
} OfflineOptions;

/* What is learned from a prompt's candidates; all zero: DrPO as in the paper. */
typedef struct LearnOptions {
    MethodOptions method;
    SoftOptions soft;
    KeepOptions keep;
} LearnOptions;

/* One feature key of all candidates of a prompt: [K, tokens, dim]. */
typedef struct FeatureSet {
    int tokens, dim;
    float *policy, *reference, *grad; /* grad: d(loss)/d(policy features), written by drift */
    float *anchors; /* of the candidates as attractors and repellers, where a map draws anew; NULL: rows of policy */
    float *data;    /* [data_pos + data_neg, tokens, dim] of given pictures, which attract and repel too */
    int data_pos, data_neg;
    int anchor_rows; /* candidates in `anchors`; 0: as many as in policy */
} FeatureSet;

/* How far a small decoder's pictures led to the same ranking as the full one's (agreement.h). Means over prompts; in
 * the making, sums. */
typedef struct Agreement {
    int prompts, ranked; /* compared; of those, with an order in both rankings */
    double tau;          /* Kendall's, over those ranked */
    double chosen;       /* share of the positives and negatives that the full decoder would have given too */
    double same;         /* share of prompts where those are all */
} Agreement;

/* What one update reports. */
typedef struct StepStats {
    double reward_mean, reward_std, reward_best,
        reward_worst;             /* of the ensemble's raw values, weighted mean over rewards */
    double raw_mean[MAX_REWARDS]; /* of each reward */
    double pref_loss, ref_loss, feature_scale, grad_norm, lr;
    double latent_distance; /* RMS distance to the base on the same noise; 0 without --latent-l2 */
    double diversity;       /* mean pairwise RMS distance of candidates' latents */
    double weight;          /* of the prompts used, summed: their number, or with spread_weight their spreads */
    int prompts_used, prompts_skipped, candidates;
    int prompts_failed;  /* of the skipped ones: those that no reward could score */
    int reward_faults;   /* attempts of rewards that failed, whether or not a later one was answered */
    Agreement agreement; /* prompts 0: not looked at */
    double seconds[8];   /* text, generate, reference, decode, reward, features+drift, backward, optimizer */
} StepStats;

enum {
    PHASE_TEXT,
    PHASE_GENERATE,
    PHASE_REFERENCE,
    PHASE_DECODE,
    PHASE_REWARD,
    PHASE_FEATURES,
    PHASE_BACKWARD,
    PHASE_OPTIMIZER,
    PHASES
};

#endif
