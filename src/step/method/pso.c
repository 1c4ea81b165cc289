/* PSO: pairwise sample optimization of neighbouring candidates (0,1), (2,3), ...
 *
 *     a = stopgrad(x0) + std n,   n: the candidate's own noise, standardised; a is what the reward sees
 *     l(mu) = -mean ((a - mu) / std)^2 / 2,   rho = clamp(l(x0) - l(ref), -10, 10), then to log(1 -+ clip)
 *     loss = mean over pairs whose rewards differ of -log sigmoid(beta (rho_winner - rho_loser))
 *
 * Where a clamp holds rho it passes no gradient; so learning stops once the policy is about std sqrt(2 clip) away from
 * its base. */
#include <math.h>
#include <stdlib.h>

#include "step/method/method.h"

/* Standardises: mean and 1/deviation of one candidate's noise. */
static void moments(const float *z, size_t n, double *mean, double *inverse) {
    double squares = 0;
    *mean = 0;
    for (size_t k = 0; k < n; k++) *mean += z[k] / (double)n;
    for (size_t k = 0; k < n; k++) squares += (z[k] - *mean) * (z[k] - *mean);
    *inverse = 1 / fmax(sqrt(squares / (double)n), 1e-6);
}

void method_pso_act(const MethodOptions *o, const float *noise, float *latents, int count, size_t width) {
    for (int i = 0; i < count; i++) {
        const float *z = noise + (size_t)i * width;
        double mean, inverse;
        moments(z, width, &mean, &inverse);
        float *x = latents + (size_t)i * width;
        for (size_t k = 0; k < width; k++) x[k] += (float)(o->pso_std * (z[k] - mean) * inverse);
    }
}

typedef struct Ratio {
    double rho;
    bool open; /* no clamp holds it */
} Ratio;

/* Noise is [C,h*w], latents as a feature are [h*w,C]. */
static double offset_at(const FeatureSet *f, const float *z, size_t k, double mean, double inverse) {
    const size_t channels = (size_t)f->dim;
    return (z[k % channels * (size_t)f->tokens + k / channels] - mean) * inverse;
}

static Ratio ratio_of(const MethodInput *in, int i) {
    const FeatureSet *f = in->latents;
    const size_t n = in->width;
    const float *z = in->noise + (size_t)i * n, *x = f->policy + (size_t)i * n, *ref = f->reference + (size_t)i * n;
    const double std = in->options->pso_std, clip = in->options->pso_clip;
    double mean, inverse, gain = 0;
    moments(z, n, &mean, &inverse);
    for (size_t k = 0; k < n; k++) {
        const double own = offset_at(f, z, k, mean, inverse), other = own + ((double)x[k] - ref[k]) / std;
        gain += (other * other - own * own) / 2 / (double)n;
    }
    const double low = log(1 - clip), high = log(1 + clip), rho = fmax(-10, fmin(10, gain));
    return (Ratio){fmax(low, fmin(high, rho)), gain >= -10 && gain <= 10 && rho >= low && rho <= high};
}

static void add_gradient(const MethodInput *in, int i, double slope) {
    const FeatureSet *f = in->latents;
    const size_t n = in->width;
    const float *z = in->noise + (size_t)i * n;
    double mean, inverse;
    moments(z, n, &mean, &inverse);
    const double factor = slope / (in->options->pso_std * (double)n);
    for (size_t k = 0; k < n; k++) f->grad[(size_t)i * n + k] = (float)(factor * offset_at(f, z, k, mean, inverse));
}

int method_pso(const MethodInput *in, double *loss, Error *err) {
    const double beta = in->options->pso_beta;
    int pairs = 0;
    if (in->count % 2)
        return fail(err, DRPO_E_USAGE, "pso: %d candidates make no pairs; use an even number", in->count);
    for (int i = 0; i < in->count; i += 2) pairs += in->score[i] != in->score[i + 1];
    *loss = 0;
    for (int i = 0; i < in->count; i += 2) {
        if (in->score[i] == in->score[i + 1]) continue;
        const int winner = in->score[i] > in->score[i + 1] ? i : i + 1, loser = 2 * i + 1 - winner;
        const Ratio w = ratio_of(in, winner), l = ratio_of(in, loser);
        const double logit = beta * (w.rho - l.rho), slope = -beta / (1 + exp(logit)) / pairs;
        *loss += (logit > 0 ? log1p(exp(-logit)) : log1p(exp(logit)) - logit) / pairs;
        if (w.open) add_gradient(in, winner, slope);
        if (l.open) add_gradient(in, loser, -slope);
    }
    return 0;
}
