/* Optimize: one AdamW update of the adapter's values, in PyTorch's order of operations.
 *
 *     g *= min(1, clip / (|g| + 1e-6));   w -= rate * decay * w;   m += (1-b1)(g - m);   v = b2 v + (1-b2) g^2;
 *     w -= rate / (1-b1^t) * m / (sqrt(v) / sqrt(1-b2^t) + eps)
 *
 * In the update: gradient -> optimize. The norm is summed in float64 over fixed blocks, so it does not depend on
 * threads. Values that move with a share of the rate count by that share in the norm. */
#include "step/optimize.h"

#include <math.h>
#include <stdlib.h>

enum { NORM_BLOCKS = 64 };

int optimizer_allocate(Optimizer *o, size_t count, Error *err) {
    o->count = count;
    o->step = 0;
    o->m = calloc(count ? count : 1, sizeof(float));
    o->v = calloc(count ? count : 1, sizeof(float));
    if (o->m && o->v) return 0;
    optimizer_free(o);
    return fail(err, DRPO_E_MEMORY, "no memory for the optimizer's moments of %zu values; lower the LoRA rank", count);
}

void optimizer_free(Optimizer *o) {
    free(o->m);
    free(o->v);
    o->m = o->v = NULL;
    o->count = 0;
}

float schedule_rate(const Optimizer *o, long step) {
    double rate = o->lr;
    if (o->warmup > 0 && step < o->warmup) rate *= (double)(step + 1) / o->warmup;
    if (o->schedule == SCHEDULE_CONSTANT || o->total <= 0) return (float)rate;
    const double done = fmin((double)step / o->total, 1);
    return (float)(rate * (o->schedule == SCHEDULE_LINEAR ? 1 - done : (1 + cos(M_PI * done)) / 2));
}

static float share_of(const Optimizer *o, size_t i) { return o->share ? o->share[i] : 1; }

static double squared_norm(const Optimizer *o, const float *grad) {
    const size_t count = o->count;
    double part[NORM_BLOCKS] = {0};
    const size_t length = (count + NORM_BLOCKS - 1) / NORM_BLOCKS;
#pragma omp parallel for schedule(static)
    for (size_t block = 0; block < NORM_BLOCKS; block++)
        for (size_t i = block * length; i < (block + 1) * length && i < count; i++)
            part[block] += (double)(grad[i] * share_of(o, i)) * (grad[i] * share_of(o, i));
    double sum = 0;
    for (int block = 0; block < NORM_BLOCKS; block++) sum += part[block];
    return sum;
}

int optimizer_update(Optimizer *o, float *values, const float *grad, double *norm, Error *err) {
    const double length = sqrt(squared_norm(o, grad));
    if (norm) *norm = length;
    if (!isfinite(length))
        return fail(err, DRPO_E_NUMERIC, "the gradient of update %ld is not finite; lower the learning rate", o->step);
    const float clip = o->clip > 0 ? (float)fmin(1, o->clip / (length + 1e-6)) : 1.0f;
    const float rate = schedule_rate(o, o->step), beta1 = o->beta1, beta2 = o->beta2, eps = o->eps;
    const double t = (double)(o->step + 1);
    const float keep = (float)(1 - (double)rate * o->weight_decay);
    const float size = (float)(rate / (1 - pow(beta1, t)));
    const float correction = (float)sqrt(1 - pow(beta2, t));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < o->count; i++) {
        const float g = grad[i] * clip, share = share_of(o, i);
        if (share == 0) continue;
        o->m[i] += (1 - beta1) * (g - o->m[i]);
        o->v[i] = beta2 * o->v[i] + (1 - beta2) * g * g;
        const float kept = share == 1 ? keep : 1 - share * (1 - keep);
        values[i] = kept * values[i] - share * size * o->m[i] / (sqrtf(o->v[i]) / correction + eps);
    }
    o->step++;
    return 0;
}
