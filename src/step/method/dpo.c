/* DPO in one step: all candidates against the best and the worst of themselves.
 *
 *     s(x; Y) = - mean over x_i, y_j of mean (x_i - y_j)^2        Y+, Y-: best and worst latents, without gradient
 *     logit = beta ((s(x; Y+) - s(x; Y-)) - (s(ref; Y+) - s(ref; Y-)))        loss = -log sigmoid(logit)
 *
 * The squares of x cancel: logit = 2 beta / D (mean x - mean ref).(mean Y+ - mean Y-), so every candidate gets the same
 * gradient. */
#include <math.h>
#include <stdlib.h>

#include "step/method/method.h"

/* Mean of the listed rows; row NULL: of all. */
static void add_mean(const float *rows, const int *row, int n, size_t width, double sign, double *out) {
    for (int i = 0; i < n; i++) {
        const float *x = rows + (size_t)(row ? row[i] : i) * width;
        for (size_t k = 0; k < width; k++) out[k] += sign * x[k] / n;
    }
}

int method_dpo(const MethodInput *in, double *loss, Error *err) {
    const FeatureSet *f = in->latents;
    const Selection *s = in->selection;
    const size_t width = in->width;
    const double beta = in->options->dpo_beta;
    double *better = calloc(2 * width, sizeof *better), *moved = better + width, product = 0;
    if (!better) return fail(err, DRPO_E_MEMORY, "dpo: out of memory");
    add_mean(f->policy, s->pos, s->n_pos, width, 1, better);
    add_mean(f->policy, s->neg, s->n_neg, width, -1, better);
    add_mean(f->policy, NULL, in->count, width, 1, moved);
    add_mean(f->reference, NULL, in->count, width, -1, moved);
    for (size_t k = 0; k < width; k++) product += moved[k] * better[k];
    const double logit = 2 * beta / (double)width * product;
    *loss = logit > 0 ? log1p(exp(-logit)) : log1p(exp(logit)) - logit;
    const double slope = -1 / (1 + exp(logit)) * 2 * beta / ((double)width * in->count);
    for (size_t k = 0; k < (size_t)in->count * width; k++) f->grad[k] = (float)(slope * better[k % width]);
    free(better);
    return 0;
}
