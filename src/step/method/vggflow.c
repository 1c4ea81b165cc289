/* VGG-Flow in one step: regression onto the base moved along the reward's gradient.
 *
 *     g_k = d r_k / d x0_k, shortened to at most tau;   x*_k = ref_k + scale g_k;   loss = mean (x0 - x*)^2
 *
 * tau is a quantile of the norms of the update before, 1 in the first: the caller keeps it. Gradients are shortened one
 * by one, so that a single steep picture does not outweigh the rest. */
#include <math.h>

#include "step/method/method.h"

int method_vggflow(const MethodInput *in, double *loss, Error *err) {
    const MethodOptions *o = in->options;
    const FeatureSet *f = in->latents;
    const double n = (double)in->count * (double)in->width;
    (void)err;
    *loss = 0;
    for (int k = 0; k < in->count; k++) {
        const size_t first = (size_t)k * in->width;
        double squares = 0;
        for (size_t j = first; j < first + in->width; j++)
            squares += (double)in->reward_gradient[j] * in->reward_gradient[j];
        const double norm = fmax(sqrt(squares), 1e-8);
        const double length = o->vgg_quantile > 0 ? fmin(norm, in->vgg_threshold) : norm;
        in->norm[k] = sqrt(squares);
        for (size_t j = first; j < first + in->width; j++) {
            const double target = f->reference[j] + o->vgg_scale * in->reward_gradient[j] * (length / norm);
            const double gap = f->policy[j] - target;
            *loss += gap * gap / n;
            f->grad[j] = (float)(2 * gap / n);
        }
    }
    return 0;
}
