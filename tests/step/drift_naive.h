/* An independent float64 implementation of the drift, straight from its definition. */
#ifndef DRPO_TESTS_DRIFT_NAIVE_H
#define DRPO_TESTS_DRIFT_NAIVE_H

#include <math.h>
#include <stdlib.h>

#include "step/drift.h"

typedef struct Naive {
    double *force, *grad, loss, scale, s;
} Naive;

typedef struct Targets {
    size_t count;
    const float **row;
    double *weight, *distance, *cosine; /* distance, cosine [n, count] */
} Targets;

static inline Targets naive_targets(const DriftInput *in) {
    Targets t = {.count = in->n + in->m + in->p};
    t.row = malloc(t.count * sizeof *t.row);
    t.weight = malloc(t.count * sizeof(double));
    t.distance = malloc(in->n * t.count * sizeof(double));
    t.cosine = malloc(in->n * t.count * sizeof(double));
    for (size_t j = 0; j < t.count; j++) {
        const bool is_x = j < in->n, is_neg = !is_x && j < in->n + in->m;
        t.row[j] = is_x     ? in->x + j * in->d
                   : is_neg ? in->neg + (j - in->n) * in->d
                            : in->pos + (j - in->n - in->m) * in->d;
        t.weight[j] = is_x ? 1 : is_neg ? in->w_neg : in->w_pos;
    }
    for (size_t i = 0; i < in->n; i++)
        for (size_t j = 0; j < t.count; j++) {
            double square = 0, product = 0, a = 0, b = 0;
            for (size_t k = 0; k < in->d; k++) {
                const double x = in->x[i * in->d + k], y = t.row[j][k];
                square += (x - y) * (x - y);
                product += x * y;
                a += x * x;
                b += y * y;
            }
            t.distance[i * t.count + j] = sqrt(fmax(square, 1e-8));
            t.cosine[i * t.count + j] = product / (fmax(sqrt(a), 1e-8) * fmax(sqrt(b), 1e-8));
        }
    return t;
}

static inline void free_targets(Targets *t) {
    free(t->row);
    free(t->weight);
    free(t->distance);
    free(t->cosine);
}

static inline double naive_logit(const DriftInput *in, const Targets *t, double scale, double r, size_t i, size_t j) {
    const double x = t->distance[i * t->count + j] / scale / r;
    const double value = in->kernel == 2 ? t->cosine[i * t->count + j] / r : in->kernel == 1 ? -0.5 * x * x : -x;
    const bool own =
        j == i || (in->mask_negative_self && j == in->n + i) || (in->mask_positive_self && j == in->n + in->m + i);
    return own ? value - 100 / r : value;
}

/* a [n,count] = sqrt(max(row softmax * column softmax, 1e-6)) * weight */
static inline void naive_affinity(const DriftInput *in, const Targets *t, double scale, double r, double *a) {
    const size_t n = in->n, count = t->count;
    double *row = calloc(n, sizeof(double)), *column = calloc(count, sizeof(double));
    double *row_max = malloc(n * sizeof(double)), *column_max = malloc(count * sizeof(double));
    for (size_t i = 0; i < n; i++) row_max[i] = -INFINITY;
    for (size_t j = 0; j < count; j++) column_max[j] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            const double l = a[i * count + j] = naive_logit(in, t, scale, r, i, j);
            row_max[i] = fmax(row_max[i], l);
            column_max[j] = fmax(column_max[j], l);
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            row[i] += exp(a[i * count + j] - row_max[i]);
            column[j] += exp(a[i * count + j] - column_max[j]);
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            const double l = a[i * count + j];
            const double both = exp(l - row_max[i]) / row[i] * (exp(l - column_max[j]) / column[j]);
            a[i * count + j] = sqrt(fmax(both, 1e-6)) * t->weight[j];
        }
    free(row);
    free(column);
    free(row_max);
    free(column_max);
}

static inline void naive_add_radius(const DriftInput *in, const Targets *t, double s, const double *a, double *force) {
    double *f = calloc(in->n * in->d, sizeof(double)), power = 0;
    for (size_t i = 0; i < in->n; i++) {
        double attract = 0, repel = 0;
        for (size_t j = 0; j < t->count; j++) *(j < in->n + in->m ? &repel : &attract) += a[i * t->count + j];
        for (size_t j = 0; j < t->count; j++) {
            const double c = j < in->n + in->m ? -a[i * t->count + j] * attract : a[i * t->count + j] * repel;
            for (size_t k = 0; k < in->d; k++)
                f[i * in->d + k] += c * ((double)t->row[j][k] - in->x[i * in->d + k]) / s;
        }
    }
    for (size_t k = 0; k < in->n * in->d; k++) power += f[k] * f[k];
    const double rms = sqrt(fmax(power / (double)(in->n * in->d), 1e-8));
    for (size_t k = 0; k < in->n * in->d; k++) force[k] += f[k] / rms;
    free(f);
}

static inline Naive naive_drift(const DriftInput *in) {
    Targets t = naive_targets(in);
    Naive out = {calloc(in->n * in->d, sizeof(double)), malloc(in->n * in->d * sizeof(double)), 0, 0, 0};
    double weighted = 0, weights = 0;
    for (size_t j = 0; j < t.count; j++) {
        weights += t.weight[j] / (double)t.count;
        for (size_t i = 0; i < in->n; i++)
            weighted += t.distance[i * t.count + j] * t.weight[j] / (double)(in->n * t.count);
    }
    out.scale = fmax(weighted / fmax(weights, 1e-8), 1e-3);
    out.s = fmax(out.scale / sqrt((double)in->d), 1e-3);
    double *a = malloc(in->n * t.count * sizeof(double));
    for (int r = 0; r < in->n_radii; r++) {
        naive_affinity(in, &t, out.scale, in->radii[r], a);
        naive_add_radius(in, &t, out.s, a, out.force);
    }
    for (size_t k = 0; k < in->n * in->d; k++) {
        out.loss += out.force[k] * out.force[k] / (double)(in->n * in->d);
        out.grad[k] = -2 * out.force[k] / ((double)(in->n * in->d) * out.s);
    }
    free(a);
    free_targets(&t);
    return out;
}

static inline void free_naive(Naive *n) {
    free(n->force);
    free(n->grad);
}

#endif
