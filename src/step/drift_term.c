/* One term of the drift on a cloud: scale, double softmax, coefficients, force.
 *
 *     A_ij = sqrt(max(softmax_j(l) softmax_i(l), 1e-6)) w_j,   c_ij = +A_ij S-_i on attractors, -A_ij S+_i on
 * repellers, F_i = sum over radii of (sum_j c_ij (t_j - x_i)) / s / rms,   d(loss)/dX = -2 F / (N D s).
 *
 * Passes over blocks of samples: distances (scale), statistics of the column softmax, coefficients and forces. Every
 * sum has a fixed order, so results do not depend on the number of threads. */
#include <math.h>
#include <stdlib.h>

#include "step/drift_field.h"

enum {
    DENSE_COLUMNS = 1536, /* above, few affinities leave their floor */
    SCALE_BLOCKS = 256    /* partial sums of the scale */
};

int term_open(Term *t, size_t columns, size_t samples, Error *err) {
    *t = (Term){.columns = columns, .column = calloc(columns, sizeof(Column)), .dense_columns = DENSE_COLUMNS};
    if (!t->column) return fail(err, DRPO_E_MEMORY, "drift: no memory for %zu targets", columns);
    for (size_t u = 0; u < columns; u++) t->column[u].own = -1;
    for (size_t i = 0; i < samples; i++) term_add(t, i, 1, false, (ptrdiff_t)i);
    return 0;
}

void term_close(Term *t) {
    free(t->column);
    *t = (Term){0};
}

void term_add(Term *t, size_t row, double weight, bool positive, ptrdiff_t masked_at) {
    Column *c = &t->column[row];
    const int kind = masked_at >= 0 ? MASKED : OPEN;
    if (masked_at >= 0) c->own = masked_at;
    c->count[kind] += 1;
    (positive ? c->positive : c->negative)[kind] += weight;
    t->targets += 1;
    t->weight_sum += weight;
}

static double column_weight(const Column *c) {
    return c->negative[0] + c->negative[1] + c->positive[0] + c->positive[1];
}

/* Sum of weighted distances of up to DRIFT_ROWS samples. */
static double weighted_distances(const Term *t, const Cloud *c, size_t first) {
    const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
    double total = 0;
    for (size_t from = 0; from < t->columns; from += DRIFT_COLUMNS) {
        double weight[DRIFT_COLUMNS] = {0};
        for (size_t u = 0; u < DRIFT_COLUMNS && from + u < t->columns; u++)
            weight[u] = column_weight(&t->column[from + u]);
        total += c->kernels->weigh(cloud_tile(c, first, rows, from, t->columns), rows, weight);
    }
    return total;
}

void term_scale(Term *t, Cloud *c) {
    const size_t blocks = (c->samples + DRIFT_ROWS - 1) / DRIFT_ROWS;
    double total = 0, sum[SCALE_BLOCKS];
    cloud_ready(c);
    for (size_t start = 0; start < blocks; start += SCALE_BLOCKS) {
        const size_t count = start + SCALE_BLOCKS < blocks ? SCALE_BLOCKS : blocks - start;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
        for (size_t k = 0; k < count; k++) sum[k] = weighted_distances(t, c, (start + k) * DRIFT_ROWS);
        for (size_t k = 0; k < count; k++) total += sum[k];
    }
    const double mean_weight = t->weight_sum / t->targets;
    t->scale = fmax(total / ((double)c->samples * t->targets) / fmax(mean_weight, 1e-8), 1e-3);
    t->scale_per_dim = fmax(t->scale / sqrt((double)c->dim), 1e-3);
}

/* ---- the arrays of a field ---- */

void field_mask_own(const Field *f, double *tile, size_t first, size_t rows, size_t from, bool keep) {
    for (size_t u = from; u < f->term->columns && u < from + DRIFT_COLUMNS; u++) {
        const ptrdiff_t own = f->term->column[u].own;
        if (own < (ptrdiff_t)first || own >= (ptrdiff_t)(first + rows)) continue;
        double *entry = tile + ((size_t)own - first) * DRIFT_TILE + u - from;
        if (keep) f->own_measure[u] = *entry;
        *entry = DRIFT_FAR;
    }
}

static void lay_out(Field *f) {
    const Term *t = f->term;
    for (size_t i = 0; i < f->cloud->samples; i++) f->own_first[i] = -1;
    for (size_t u = 0; u < t->columns; u++) {
        const Column *c = &t->column[u];
        const int first = c->count[MASKED] > 0 ? MASKED : OPEN;
        f->count[u] = c->count[OPEN] + c->count[MASKED];
        f->weight[0][u] = c->positive[first];
        f->weight[1][u] = c->negative[first];
        f->weight[2][u] = first == MASKED ? c->positive[OPEN] : 0;
        f->weight[3][u] = first == MASKED ? c->negative[OPEN] : 0;
        f->own_next[u] = c->own < 0 ? -1 : f->own_first[c->own];
        if (c->own >= 0) f->own_first[c->own] = (ptrdiff_t)u;
    }
    f->weights = (DriftWeights){{f->weight[0], f->weight[2]}, {f->weight[1], f->weight[3]}};
    for (int r = 0; r < t->n_radii; r++) f->curve[r] = drift_curve(t->kernel, t->scale, t->radii[r]);
}

static void field_close(Field *f) {
    void *const all[] = {f->count,     f->own_first, f->own_next, f->own_measure, f->half,
                         f->half_open, f->open,      f->half_row, f->power,       f->force};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
}

static int field_open(Field *f, const Term *t, Cloud *c, Error *err) {
    const size_t radii = (size_t)t->n_radii, padded = (t->columns + DRIFT_COLUMNS - 1) / DRIFT_COLUMNS * DRIFT_COLUMNS;
    *f = (Field){.term = t, .cloud = c, .padded = padded};
    f->powers = t->columns <= t->dense_columns ? (c->dim + DRIFT_WIDTH - 1) / DRIFT_WIDTH
                                               : (c->samples + field_sparse_rows(f) - 1) / field_sparse_rows(f);
    f->count = calloc(5 * padded, sizeof(double));
    f->own_first = malloc(c->samples * sizeof *f->own_first);
    f->own_next = malloc(t->columns * sizeof *f->own_next);
    f->own_measure = malloc(padded * sizeof(double));
    f->half = calloc(radii * padded, sizeof(double));
    f->half_open = calloc(radii * padded, sizeof(double));
    f->open = calloc(radii * padded, sizeof(double));
    f->half_row = malloc(radii * c->samples * sizeof(double));
    f->power = calloc(f->powers * radii, sizeof(double));
    f->force = malloc(radii * c->samples * c->dim * sizeof(float));
    if (!f->count || !f->own_first || !f->own_next || !f->own_measure || !f->half || !f->half_open || !f->open ||
        !f->half_row || !f->power || !f->force) {
        field_close(f);
        return fail(err, DRPO_E_MEMORY, "drift: no memory for the forces of %zu samples of %zu features", c->samples,
                    c->dim);
    }
    for (size_t k = 0; k < 4; k++) f->weight[k] = f->count + (k + 1) * padded;
    lay_out(f);
    return 0;
}

/* force = sum of F_r / rms_r, gradient and loss in closed form. */
static void combine(const Field *f, float *force, float *grad, float keep, float factor, double *row_loss,
                    DriftResult *result) {
    const Term *t = f->term;
    const Cloud *c = f->cloud;
    const double to_gradient = -2.0 * factor / ((double)c->samples * (double)c->dim * t->scale_per_dim);
    double share[MAX_RADII];
    for (int r = 0; r < t->n_radii; r++) share[r] = 1 / result->rms[r];
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (size_t i = 0; i < c->samples; i++) {
        double loss[8] = {0}; /* sums that do not wait for each other */
        for (size_t k = i * c->dim; k < (i + 1) * c->dim; k++) {
            double v = 0;
            for (int r = 0; r < t->n_radii; r++) v += f->force[(size_t)r * c->samples * c->dim + k] * share[r];
            loss[k % 8] += v * v;
            if (force) force[k] = (float)v;
            if (grad) grad[k] = (float)((keep == 0 ? 0 : (double)keep * grad[k]) + to_gradient * v);
        }
        row_loss[i] = field_sum(loss);
    }
    result->loss = 0;
    for (size_t i = 0; i < c->samples; i++) result->loss += row_loss[i];
    result->loss /= (double)c->samples * (double)c->dim;
}

static int run(Field *f, float *force, float *grad, float keep, float factor, double *row_loss, DriftResult *result,
               Error *err) {
    const Term *t = f->term;
    Cloud *c = f->cloud;
    cloud_ready(c);
    TRY(field_statistics(f, err));
    TRY(t->columns <= t->dense_columns ? field_dense(f, err) : field_sparse(f, err));
    *result = (DriftResult){.scale = t->scale, .scale_per_dim = t->scale_per_dim};
    for (int r = 0; r < t->n_radii; r++) {
        double power = 0;
        for (size_t k = 0; k < f->powers; k++) power += f->power[k * (size_t)t->n_radii + (size_t)r];
        result->rms[r] = sqrt(fmax(power / ((double)c->samples * (double)c->dim), 1e-8));
        if (!isfinite(power))
            return fail(err, DRPO_E_NUMERIC, "drift: the force at radius %g is not finite; lower the anchor weights",
                        (double)t->radii[r]);
    }
    combine(f, force, grad, keep, factor, row_loss, result);
    return 0;
}

int term_field(const Term *t, Cloud *c, float *force, float *grad, float keep, float factor, DriftResult *result,
               Error *err) {
    Field f;
    TRY(field_open(&f, t, c, err));
    double *row_loss = malloc(c->samples * sizeof(double));
    const int code = row_loss ? run(&f, force, grad, keep, factor, row_loss, result, err)
                              : fail(err, DRPO_E_MEMORY, "drift: no memory for the losses of %zu samples", c->samples);
    free(row_loss);
    field_close(&f);
    return code;
}
