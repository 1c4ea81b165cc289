/* Soft drift, first half: from scores to the candidates' weights. See drift_soft.h. */
#include <math.h>

#include "step/drift_soft.h"

bool drift_soft_needs_reference(Objective o) {
    return o == OBJECTIVE_AWR || o == OBJECTIVE_AWR_CONTRAST || o == OBJECTIVE_AWR_TOPK;
}

static double clipped(double x, double clip) { return clip > 0 ? fmax(-clip, fmin(clip, x)) : x; }

/* Best first; equal scores keep their order. */
static void rank(const double *y, int n, int *order) {
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && y[order[at - 1]] < y[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

/* out_i = sign y_i / alpha - max, clipped, over the listed candidates. */
static void relative_to_best(const double *y, double sign, const int *member, int n, const SoftOptions *o,
                             double *out) {
    double best = -INFINITY;
    for (int k = 0; k < n; k++) best = fmax(best, sign * y[member[k]] / o->alpha);
    for (int k = 0; k < n; k++) out[member[k]] = clipped(sign * y[member[k]] / o->alpha - best, o->clip);
}

static int share_of(const SoftOptions *o, int n) {
    const int t = (int)ceil((double)n * o->fraction);
    return t < 1 ? 1 : t > n ? n : t;
}

/* Above and below the mean; when nobody is, the best or the worst alone. The maximum is not taken off. */
static void by_sign(const SoftOptions *o, const double *y, int n, const int *order, SoftWeights *out) {
    double mean = 0;
    for (int i = 0; i < n; i++) mean += y[i] / n;
    for (int i = 0; i < n; i++) {
        const double advantage = y[i] - mean;
        if (advantage > 0) out->up[i] = clipped(advantage / o->alpha, o->clip), out->n_up++;
        if (advantage < 0) out->down[i] = clipped(-advantage / o->alpha, o->clip), out->n_down++;
    }
    if (out->n_up == 0) out->up[order[0]] = 0, out->n_up = 1;
    if (out->n_down == 0) out->down[order[n - 1]] = 0, out->n_down = 1;
}

void drift_soft_weights(const SoftOptions *o, const double *y, int n, SoftWeights *out) {
    int order[MAX_CANDIDATES] = {0};
    rank(y, n, order);
    out->n_up = out->n_down = 0;
    for (int i = 0; i < n; i++) out->up[i] = out->down[i] = -INFINITY;
    if (o->objective == OBJECTIVE_AWR_ADVSIGN) {
        by_sign(o, y, n, order, out);
        return;
    }
    const bool some = o->objective == OBJECTIVE_AWR_TOPK || o->objective == OBJECTIVE_AWR_HARD;
    const int t = some ? share_of(o, n) : n;
    out->n_up = out->n_down = t;
    relative_to_best(y, 1, order, t, o, out->up);
    relative_to_best(y, -1, order + n - t, t, o, out->down);
    for (int i = 0; i < n && o->objective == OBJECTIVE_AWR; i++) out->down[i] = 0; /* the plain mean */
}
