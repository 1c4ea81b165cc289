/* GRPO in one step (neighbours): a few candidates, the anchors, move toward those of high advantage around them.
 *
 *     adv = sqrt(K) (R - mean R) / (sum |R - mean R|^p)^(1/p) * scale, clipped
 *     logpi(g | y) = log softmax_g(- mean (x_g - y)^2 / T),   ratio = exp(logpi(g | y) - logpi(g | y_old))
 *     loss = - mean over anchors y and g of min(ratio adv, clamp(ratio) adv) + l2 mean (y - y_ref)^2
 *
 * y_old is y, so ratio = 1 and d(loss)/dy = -2 / (anchors K T D) (sum_g adv_g x_g - (sum_g adv_g) sum_g softmax_g x_g).
 * Candidates should lie around one noise (--neighbour-noise). */
#include <math.h>
#include <stdlib.h>

#include "step/method/method.h"

/* From raw scores to advantages in place of them. */
static void advantages(const MethodOptions *o, const double *score, int n, double *out) {
    const double p = o->grpo_power;
    double mean = 0, sum = 0;
    for (int i = 0; i < n; i++) mean += score[i] / n;
    for (int i = 0; i < n; i++) sum += pow(fabs(score[i] - mean), p);
    const double norm = pow(sum, 1 / p), clip = o->grpo_advantage_clip;
    for (int i = 0; i < n; i++) {
        const double a = norm > 1e-6 ? sqrt(n) * (score[i] - mean) / norm * o->grpo_scale : 0;
        out[i] = clip > 0 ? fmax(-clip, fmin(clip, a)) : a;
    }
}

/* The first `anchors` of a shuffle of the candidates. */
static void draw_anchors(const MethodInput *in, int anchors, int *order) {
    for (int i = 0; i < in->count; i++) order[i] = i;
    for (int i = 0; i < anchors; i++) {
        const int j = i + (int)rng_below(in->draw, (uint64_t)i, (size_t)(in->count - i)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* softmax_g of -mean (x_g - y)^2 / T into `weight` [K]. */
static void neighbours(const MethodInput *in, const float *y, double *weight) {
    const int n = in->count;
    double sum = 0, most = -INFINITY;
    for (int g = 0; g < n; g++) {
        const float *x = in->latents->policy + (size_t)g * in->width;
        double squares = 0;
        for (size_t k = 0; k < in->width; k++) squares += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        weight[g] = -squares / (double)in->width / in->options->grpo_temperature;
        most = fmax(most, weight[g]);
    }
    for (int g = 0; g < n; g++) sum += weight[g] = exp(weight[g] - most);
    for (int g = 0; g < n; g++) weight[g] /= sum;
}

/* Gradient of one anchor; returns its squared distance to the reference. */
static double move_anchor(const MethodInput *in, int anchor, int anchors, const double *advantage, double sum) {
    const MethodOptions *o = in->options;
    const FeatureSet *f = in->latents;
    const int n = in->count;
    const size_t width = in->width;
    const float *y = f->policy + (size_t)anchor * width, *ref = f->reference + (size_t)anchor * width;
    float *out = f->grad + (size_t)anchor * width;
    double weight[MAX_CANDIDATES], squares = 0;
    neighbours(in, y, weight);
    const double slope = -2 / ((double)anchors * n * o->grpo_temperature * (double)width);
    const double back = 2 * in->anchor_l2 / ((double)anchors * (double)width);
    for (size_t k = 0; k < width; k++) {
        double pull = 0;
        for (int g = 0; g < n; g++) pull += (advantage[g] - sum * weight[g]) * f->policy[(size_t)g * width + k];
        const double gap = (double)y[k] - ref[k];
        out[k] = (float)(slope * pull + back * gap);
        squares += gap * gap;
    }
    return squares / (double)width;
}

int method_grpo(const MethodInput *in, double *loss, Error *err) {
    const int anchors = in->options->grpo_anchors;
    double advantage[MAX_CANDIDATES], sum = 0;
    int order[MAX_CANDIDATES];
    if (anchors < 1 || anchors > in->count)
        return fail(err, DRPO_E_USAGE, "grpo: %d anchors among %d candidates; use 1 to %d", anchors, in->count,
                    in->count);
    advantages(in->options, in->score, in->count, advantage);
    draw_anchors(in, anchors, order);
    for (int g = 0; g < in->count; g++) sum += advantage[g];
    *loss = -sum / in->count;
    for (int i = 0; i < anchors; i++)
        *loss += in->anchor_l2 * move_anchor(in, order[i], anchors, advantage, sum) / anchors;
    return 0;
}
