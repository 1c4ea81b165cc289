/* Forces of few targets: all coefficients c_ij of a block of samples, then F = C T as a product of matrices.
 *
 *     a_ij = max(exp(l_ij - half_row_i - half_j), 1e-3),  c_ij = +a_ij w_j S-_i on attractors, -a_ij w_j S+_i on
 * repellers. In the update: after the statistics of both softmaxes. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift_field.h"

static const double MASK_PENALTY = 100;

typedef struct Dense {
    const Field *field;
    double *work;       /* [threads][3 * padded] */
    float *points;      /* [threads][columns, DRIFT_WIDTH]: one tile of centred coordinates */
    float *moved;       /* [threads][radii * DRIFT_ROWS, DRIFT_WIDTH] */
    float *coefficient; /* [radii * padded rows, padded] of the present block */
    double *sum;        /* [radii * DRIFT_ROWS]: sums of its rows */
} Dense;

/* ---- coefficients of one sample ---- */

void field_own_pair(const Field *f, size_t radius, size_t u, double out[2]) {
    const size_t at = radius * f->padded + u;
    const Column *c = &f->term->column[u];
    const double rest =
        field_logit(f->curve[radius], f->own_measure[u]) - f->half_row[radius * f->cloud->samples + (size_t)c->own];
    const double masked = fmax(exp(rest - MASK_PENALTY / (double)f->term->radii[radius] - f->half[at]), DRIFT_FLOOR);
    const double open = c->count[OPEN] > 0 ? fmax(exp(rest - f->half_open[at]), DRIFT_FLOOR) : 0;
    out[0] = masked * f->weight[0][u] + open * f->weight[2][u];
    out[1] = masked * f->weight[1][u] + open * f->weight[3][u];
}

/* Writes c_ij folded on the rows of the cloud and returns their sum. The own row of X moves nothing and is left out. */
static double coefficients(const Field *f, const double *measure, size_t sample, size_t r, double *work, float *out) {
    const size_t columns = f->term->columns, padded = f->padded;
    const DriftKernels *kernels = f->cloud->kernels;
    double *masked = work, *pull = work + padded, *push = pull + padded, sums[2];
    memcpy(masked, measure, columns * sizeof(double));
    for (size_t u = columns; u < padded; u++) masked[u] = DRIFT_FAR;
    for (ptrdiff_t u = f->own_first[sample]; u >= 0; u = f->own_next[u]) masked[u] = DRIFT_FAR;
    kernels->affinities(masked, padded, f->curve[r], f->half_row[r * f->cloud->samples + sample], f->half + r * padded,
                        f->open + r * padded, &f->weights, pull, push, sums);
    for (ptrdiff_t u = f->own_first[sample]; u >= 0; u = f->own_next[u]) {
        double pair[2];
        field_own_pair(f, r, (size_t)u, pair);
        sums[0] += pair[0] - pull[u];
        sums[1] += pair[1] - push[u];
        pull[u] = (size_t)u == sample ? 0 : pair[0];
        push[u] = (size_t)u == sample ? 0 : pair[1];
    }
    return kernels->coefficients(pull, push, padded, sums[0], sums[1], out);
}

/* ---- forces ---- */

/* Centred coordinates from..from+width-1 of every column, in panels [..][columns][DRIFT_PANEL], zero-padded. */
static void load_points(const Field *f, size_t from, size_t width, float *points) {
    const Cloud *c = f->cloud;
    const size_t columns = f->term->columns;
    for (size_t start = 0; start < width; start += DRIFT_PANEL) {
        const size_t filled = start + DRIFT_PANEL < width ? DRIFT_PANEL : width - start;
        const double *mean = c->mean + from + start;
        for (size_t u = 0; u < columns; u++) {
            float *to = points + (start / DRIFT_PANEL * columns + u) * DRIFT_PANEL;
            const float *x = c->row[u] + from + start;
            for (size_t k = 0; k < filled; k++) to[k] = (float)(x[k] - mean[k]);
            for (size_t k = filled; k < DRIFT_PANEL; k++) to[k] = 0;
        }
    }
}

/* F_r,i = (moved - (sum_j c_ij) x_i) / s over one row of a tile; returns the sum of squares. */
static double settle_row(const float *moved, const float *x, const double *mean, double sum, double per_unit,
                         size_t width, float *out) {
    double power[8] = {0}; /* sums that do not wait for each other */
    for (size_t k = 0; k < width; k++) {
        const double v = (moved[k] - sum * (float)(x[k] - mean[k])) * per_unit;
        out[k] = (float)v;
        power[k % 8] += v * v;
    }
    return field_sum(power);
}

/* One tile of coordinates of the forces of samples first..first+rows-1. */
static void force_tile(const Dense *d, size_t first, size_t rows, size_t padded, size_t tile) {
    const Field *f = d->field;
    const Term *t = f->term;
    const Cloud *c = f->cloud;
    const size_t from = tile * DRIFT_WIDTH, width = from + DRIFT_WIDTH < c->dim ? DRIFT_WIDTH : c->dim - from;
    const size_t thread = (size_t)omp_get_thread_num(), stacked = (size_t)t->n_radii * padded;
    float *points = d->points + thread * t->columns * DRIFT_WIDTH;
    float *moved = d->moved + thread * (size_t)t->n_radii * DRIFT_ROWS * DRIFT_WIDTH;
    load_points(f, from, width, points);
    memset(moved, 0, stacked * DRIFT_WIDTH * sizeof(float));
    const size_t panels = (width + DRIFT_PANEL - 1) / DRIFT_PANEL;
    c->kernels->mix(d->coefficient, f->padded, stacked, points, t->columns, panels * DRIFT_PANEL, moved);
    for (size_t r = 0; r < (size_t)t->n_radii; r++)
        for (size_t i = 0; i < rows; i++) {
            const size_t line = r * padded + i;
            float *out = f->force + (r * c->samples + first + i) * c->dim + from;
            f->power[tile * (size_t)t->n_radii + r] +=
                settle_row(moved + line * DRIFT_WIDTH, c->row[first + i] + from, c->mean + from, d->sum[line],
                           1 / t->scale_per_dim, width, out);
        }
}

static void force_block(const Dense *d, size_t first, size_t rows) {
    const Field *f = d->field;
    Cloud *c = f->cloud;
    const size_t padded = (rows + 7) / 8 * 8, radii = (size_t)f->term->n_radii;
    const double *measure = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 4)
    for (size_t k = 0; k < radii * padded; k++) {
        const size_t i = k % padded;
        float *out = d->coefficient + k * f->padded;
        if (i >= rows)
            memset(out, 0, f->padded * sizeof *out);
        else
            d->sum[k] = coefficients(f, measure + i * c->rows, first + i, k / padded,
                                     d->work + (size_t)omp_get_thread_num() * 3 * f->padded, out);
    }
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (size_t tile = 0; tile < f->powers; tile++) force_tile(d, first, rows, padded, tile);
}

int field_dense(Field *f, Error *err) {
    const size_t radii = (size_t)f->term->n_radii, threads = (size_t)f->cloud->threads, samples = f->cloud->samples;
    Dense d = {.field = f};
    d.work = malloc(threads * 3 * f->padded * sizeof(double));
    d.points = malloc(threads * f->term->columns * DRIFT_WIDTH * sizeof(float));
    d.moved = malloc(threads * radii * DRIFT_ROWS * DRIFT_WIDTH * sizeof(float));
    d.coefficient = malloc(radii * DRIFT_ROWS * f->padded * sizeof(float));
    d.sum = malloc(radii * DRIFT_ROWS * sizeof(double));
    const bool fits = d.work && d.points && d.moved && d.coefficient && d.sum;
    for (size_t first = 0; fits && first < samples; first += DRIFT_ROWS)
        force_block(&d, first, first + DRIFT_ROWS < samples ? DRIFT_ROWS : samples - first);
    free(d.work);
    free(d.points);
    free(d.moved);
    free(d.coefficient);
    free(d.sum);
    return fits ? 0 : fail(err, DRPO_E_MEMORY, "drift: no memory for the coefficients of %zu targets", f->padded);
}
