/* DRaFT in one step: the reward's own gradient, straight through the VAE decoder.
 *
 *     loss = - weight mean_k r_k - std_weight std_k(r)        population standard deviation over the candidates
 *     d(loss)/d(x0_k) = - (weight + std_weight (r_k - mean r) / std r) / K  d r_k / d x0_k */
#include <math.h>

#include "step/method/method.h"

int method_draft(const MethodInput *in, double *loss, Error *err) {
    const MethodOptions *o = in->options;
    double mean = 0, variance = 0;
    (void)err;
    for (int k = 0; k < in->count; k++) mean += in->reward[k] / in->count;
    for (int k = 0; k < in->count; k++) variance += (in->reward[k] - mean) * (in->reward[k] - mean) / in->count;
    const double std = sqrt(variance);
    *loss = -o->draft_weight * mean - o->draft_std * std;
    for (int k = 0; k < in->count; k++) {
        const double spread = std > 0 ? o->draft_std * (in->reward[k] - mean) / std : 0;
        const double slope = -(o->draft_weight + spread) / in->count;
        for (size_t j = (size_t)k * in->width; j < (size_t)(k + 1) * in->width; j++)
            in->latents->grad[j] = (float)(slope * in->reward_gradient[j]);
    }
    return 0;
}
