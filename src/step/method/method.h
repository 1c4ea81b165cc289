/* Methods: other ways than drift to learn from scored candidates of a one-step generator (--method
 * dpo|pso|grpo|draft|vggflow).
 *
 * All enter at the same seam: the clean latents x0 of the candidates as one feature, and d(loss)/d(x0), from which the
 * gradient pass goes on as it does for the drift. Everything is evaluated where it was sampled (one update per
 * rollout), so that ratios of new to old policy are 1 and their clipping never acts. DRaFT and
 * VGG-Flow also take d(reward)/d(x0) of every candidate (step/differentiate.h). */
#ifndef DRPO_STEP_METHOD_H
#define DRPO_STEP_METHOD_H

#include "base/rng.h"
#include "step/step_types.h"

/* One prompt's scored candidates. */
typedef struct MethodInput {
    const MethodOptions *options;
    int count;                    /* K */
    size_t width;                 /* C*h*w */
    const float *noise;           /* [K,C,h,w] */
    const double *score;          /* [K] */
    const Selection *selection;   /* not skipped */
    RngKey draw;                  /* of this prompt and update, for what a method draws */
    const FeatureSet *latents;    /* x0 as a feature [K,h*w,C]: policy, reference; grad is to be written */
    const double *reward;         /* [K], with */
    const float *reward_gradient; /* [K,h*w,C], where method_differentiates */
    double vgg_threshold;
    double *norm;    /* [K] of these gradients, written by vggflow */
    float anchor_l2; /* weight of the squared distance to the reference, where a method has one of its own */
} MethodInput;

/* Needs the reward's own gradient. */
static inline bool method_differentiates(const MethodOptions *o) {
    return o->kind == METHOD_DRAFT || o->kind == METHOD_VGGFLOW;
}

/* Between generate and decode: what is shown to the reward, when that is not x0 itself. latents [K,C,h,w] are changed.
 */
void method_act(const MethodOptions *o, const float *noise, float *latents, int count, size_t width);
/* latents->grad = d(loss)/d(x0). *anchored: anchor_l2 was used; else the caller adds it for all candidates. */
int method_gradient(const MethodInput *in, double *loss, bool *anchored, Error *err);

/* ---- the methods ---- */
int method_dpo(const MethodInput *in, double *loss, Error *err);
int method_pso(const MethodInput *in, double *loss, Error *err);
int method_grpo(const MethodInput *in, double *loss, Error *err);
int method_draft(const MethodInput *in, double *loss, Error *err);
int method_vggflow(const MethodInput *in, double *loss, Error *err);
void method_pso_act(const MethodOptions *o, const float *noise, float *latents, int count, size_t width);

#endif
