/* Distance: the three score modes of offline-distance training. See distance.h. */
#include "step/distance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Side {
    const float *data;
    int count;
    double value[MAX_CANDIDATES]; /* of every candidate */
} Side;

static double euclidean(const float *a, const float *b, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(squares);
}

static double norm(const float *a, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (double)a[i] * a[i];
    return fmax(sqrt(squares), 1e-6);
}

static double cosine(const float *a, const float *b, size_t n) {
    double product = 0;
    for (size_t i = 0; i < n; i++) product += (double)a[i] * b[i];
    return product / (norm(a, n) * norm(b, n));
}

/* Distances reduce to their mean or least, similarities to their mean or greatest. */
static void measure(const FeatureSet *set, int candidates, const DistanceOptions *o, Side *side) {
    const size_t n = (size_t)set->tokens * (size_t)set->dim;
    const bool similar = o->score == DISTANCE_COSINE;
    for (int k = 0; k < candidates; k++) {
        double sum = 0, extreme = similar ? -INFINITY : INFINITY;
        for (int j = 0; j < side->count; j++) {
            const float *a = set->policy + (size_t)k * n, *b = side->data + (size_t)j * n;
            const double v = similar ? cosine(a, b, n) : euclidean(a, b, n);
            sum += v / side->count;
            extreme = similar ? fmax(extreme, v) : fmin(extreme, v);
        }
        side->value[k] = o->nearest ? extreme : sum;
    }
}

static void z_score(double *v, int n, bool on) {
    double mean = 0, variance = 0;
    if (!on) return;
    for (int i = 0; i < n; i++) mean += v[i] / n;
    for (int i = 0; i < n; i++) variance += (v[i] - mean) * (v[i] - mean) / n;
    for (int i = 0; i < n; i++) v[i] = (v[i] - mean) / fmax(sqrt(variance), 1e-6);
}

static void softmax(double *v, int n) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) most = fmax(most, v[i]);
    for (int i = 0; i < n; i++) sum += v[i] = exp(v[i] - most);
    for (int i = 0; i < n; i++) v[i] /= sum;
}

static void score_key(const FeatureSet *set, int candidates, const DistanceOptions *o, Side side[2]) {
    const size_t n = (size_t)set->tokens * (size_t)set->dim;
    side[0].data = set->data;
    side[0].count = set->data_pos;
    side[1].data = set->data + (size_t)set->data_pos * n;
    side[1].count = set->data_neg;
    for (int s = 0; s < 2; s++) {
        measure(set, candidates, o, &side[s]);
        if (o->score == DISTANCE_COSINE) softmax(side[s].value, candidates);
        if (o->score == DISTANCE_SEPARATE) z_score(side[s].value, candidates, o->normalize);
    }
    const double sign = o->score == DISTANCE_COSINE ? 1 : -1;
    for (int k = 0; k < candidates; k++) side[0].value[k] = sign * (side[0].value[k] - side[1].value[k]);
    if (o->score == DISTANCE_MARGIN) z_score(side[0].value, candidates, o->normalize);
}

int distance_scores(const FeatureSet *sets, int keys, int candidates, const DistanceOptions *o, double *score,
                    Error *err) {
    Side *side = calloc(2, sizeof *side);
    if (!side) return fail(err, DRPO_E_MEMORY, "out of memory");
    memset(score, 0, (size_t)candidates * sizeof *score);
    for (int i = 0; i < keys; i++) {
        score_key(&sets[i], candidates, o, side);
        for (int k = 0; k < candidates; k++) score[k] += side[0].value[k] / (o->sum_keys ? 1 : keys);
    }
    free(side);
    return 0;
}
