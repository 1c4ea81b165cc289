/* Ensemble: rewards of different units on one scale, per prompt.
 *
 *     score_k = sum_r w_r (x_rk - mean_r) / max(std_r, 1e-6),   w normalised to sum 1, std over the prompt's candidates
 *
 * One reward alone keeps its raw values: only the order matters, and its own spread decides whether a prompt is
 * skipped. */
#include <math.h>

#include "step/reward/reward.h"

static void add_standardised(const float *x, int count, double weight, double *out) {
    double mean = 0, square = 0;
    for (int k = 0; k < count; k++) mean += (double)x[k] / count;
    for (int k = 0; k < count; k++) square += (x[k] - mean) * (x[k] - mean) / count;
    const double deviation = fmax(sqrt(square), 1e-6);
    for (int k = 0; k < count; k++) out[k] += weight * (x[k] - mean) / deviation;
}

void reward_ensemble(const float *raw, const float *weights, int rewards, int count, double *ensemble) {
    double sum = 0;
    for (int r = 0; r < rewards; r++) sum += weights[r];
    for (int k = 0; k < count; k++) ensemble[k] = rewards == 1 ? raw[k] : 0;
    for (int r = 0; r < rewards && rewards > 1; r++)
        add_standardised(raw + (size_t)r * (size_t)count, count, weights[r] / sum, ensemble);
}
