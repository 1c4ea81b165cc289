/* Drift problems of random rows, and how far a field is from another one. */
#ifndef DRPO_TESTS_DRIFT_PROBLEM_H
#define DRPO_TESTS_DRIFT_PROBLEM_H

#include <math.h>

#include "base/rng.h"
#include "check.h"
#include "step/drift.h"

static const float RADII[3] = {0.02f, 0.05f, 0.2f};

static inline float *random_rows(uint32_t stream, size_t n, size_t d, double centre, double spread) {
    float *x = malloc(n * d * sizeof *x);
    rng_normal((RngKey){7, RNG_TEST, stream, 0, 0}, x, n * d);
    for (size_t i = 0; i < n * d; i++) x[i] = (float)(centre + spread * x[i]);
    return x;
}

static inline double relative(const float *a, const double *b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference) / fmax(sqrt(norm), 1e-12);
}

typedef struct Problem {
    float *x, *pos, *neg, *force, *grad;
    DriftInput in;
    DriftResult result;
} Problem;

static inline Problem problem(size_t n, size_t p, size_t m, size_t d) {
    Problem q = {
        .x = random_rows(11, n, d, 0.2, 1), .pos = random_rows(12, p, d, 0, 1), .neg = random_rows(13, m, d, 0, 1)};
    q.force = malloc(n * d * sizeof(float));
    q.grad = malloc(n * d * sizeof(float));
    q.in = (DriftInput){q.x, q.pos, q.neg, n, p, m, d, 3000, 3000, RADII, 3, 0, false, false};
    return q;
}

static inline void solve(Problem *q) {
    Error err = {0};
    if (drift_field(&q->in, 2, q->force, q->grad, &q->result, &err) < 0) fail_msg("%s", err.text);
}

static inline void free_problem(Problem *q) {
    free(q->x);
    free(q->pos);
    free(q->neg);
    free(q->force);
    free(q->grad);
}

#endif
