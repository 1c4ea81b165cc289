/* The drift itself as a public function: a thin wrapper, so that other trainers can use the field alone. */
#include "drpo.h"
#include "step/drift.h"

DRPO_API int drpo_drift(const float *x, size_t n, const float *pos, size_t p, const float *neg, size_t m, size_t d,
                        const drpo_drift_options *opt, float *force, float *grad, double *loss) {
    if (!x || !pos || !neg || !opt || !opt->radii) return DRPO_E_USAGE;
    const DriftInput input = {.x = x,
                              .pos = pos,
                              .neg = neg,
                              .n = n,
                              .p = p,
                              .m = m,
                              .d = d,
                              .w_pos = opt->w_pos,
                              .w_neg = opt->w_neg,
                              .radii = opt->radii,
                              .n_radii = opt->n_radii,
                              .kernel = opt->kernel,
                              .mask_negative_self = opt->mask_negative_self != 0};
    DriftResult result = {0};
    const int code = drift_field(&input, 0, force, grad, &result, NULL);
    if (code == 0 && loss) *loss = result.loss;
    return code;
}
