/* One term of the drift on a cloud: scale, double softmax, coefficients, force.
 *
 *     A_ij = sqrt(max(softmax_j(l) softmax_i(l), 1e-6)) w_j,   c_ij = +A_ij S-_i on attractors, -A_ij S+_i on
 * repellers, F_i = sum over radii of (sum_j c_ij (t_j - x_i)) / s / rms,   d(loss)/dX = -2 F / (N D s).
 *
 * Passes over blocks of samples: distances (scale), statistics of the column softmax, coefficients and forces. Every
 * sum has a fixed order, so results do not depend on the number of threads. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift_internal.h"

enum { OPEN, MASKED };

static const double AFFINITY_FLOOR = 1e-3; /* sqrt of the floor of the product */
static const double MASK_PENALTY = 100;
static const double NEGLIGIBLE = -45; /* exp of less adds nothing to a float64 sum */

int term_open(Term *t, size_t columns, size_t samples, Error *err) {
    *t = (Term){.columns = columns, .column = calloc(columns, sizeof(Column))};
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

void term_scale(Term *t, Cloud *c) {
    double total = 0;
    double row_sum[DRIFT_ROWS];
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS) {
        const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
        const double *distance = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(static)
        for (size_t i = 0; i < rows; i++) {
            double sum = 0;
            for (size_t u = 0; u < t->columns; u++) sum += distance[i * c->rows + u] * column_weight(&t->column[u]);
            row_sum[i] = sum;
        }
        for (size_t i = 0; i < rows; i++) total += row_sum[i];
    }
    const double mean_weight = t->weight_sum / t->targets;
    t->scale = fmax(total / ((double)c->samples * t->targets) / fmax(mean_weight, 1e-8), 1e-3);
    t->scale_per_dim = fmax(t->scale / sqrt((double)c->dim), 1e-3);
}

/* ---- logits ---- */

static inline double logit_of(const Term *t, double measure, double radius) {
    return drift_logit(t->kernel, t->scale, measure, radius);
}

static inline double small_exp(double x) { return x < NEGLIGIBLE ? 0 : exp(x); }

/* log(sum of count * exp(logit)) kept as a running maximum and a sum. */
typedef struct LogSum {
    double max, sum;
} LogSum;

static const LogSum LOG_SUM_EMPTY = {-INFINITY, 0};

static inline void log_sum_add(LogSum *s, double logit, double count) {
    if (count <= 0) return;
    if (logit > s->max) {
        s->sum = (s->sum > 0 ? s->sum * small_exp(s->max - logit) : 0) + count;
        s->max = logit;
    } else {
        s->sum += count * small_exp(logit - s->max);
    }
}

static double log_sum_value(LogSum s) { return s.sum > 0 ? s.max + log(s.sum) : -INFINITY; }

/* ---- statistics of the column softmax ---- */

typedef struct ColumnStats {
    LogSum others;  /* over samples other than the masked one */
    double own;     /* the masked sample's logit before masking */
    double half[2]; /* half the log-sum-exp of open and of masked targets */
} ColumnStats;

static void add_block(const Term *t, const Cloud *c, const double *measure, size_t first, size_t rows, size_t u,
                      ColumnStats *stats) {
    for (int r = 0; r < t->n_radii; r++)
        for (size_t i = 0; i < rows; i++) {
            const double logit = logit_of(t, measure[i * c->rows + u], t->radii[r]);
            ColumnStats *s = &stats[(size_t)r * t->columns + u];
            if (t->column[u].own == (ptrdiff_t)(first + i))
                s->own = logit;
            else
                log_sum_add(&s->others, logit, 1);
        }
}

static void column_statistics(const Term *t, Cloud *c, ColumnStats *stats) {
    for (size_t k = 0; k < (size_t)t->n_radii * t->columns; k++) stats[k] = (ColumnStats){LOG_SUM_EMPTY, 0, {0, 0}};
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS) {
        const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
        const double *measure = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(static, 8)
        for (size_t u = 0; u < t->columns; u++) add_block(t, c, measure, first, rows, u, stats);
    }
    for (int r = 0; r < t->n_radii; r++)
        for (size_t u = 0; u < t->columns; u++) {
            ColumnStats *s = &stats[(size_t)r * t->columns + u];
            const bool has_own = t->column[u].own >= 0;
            for (int kind = OPEN; kind <= MASKED; kind++) {
                LogSum sum = s->others;
                if (has_own) log_sum_add(&sum, kind == MASKED ? s->own - MASK_PENALTY / t->radii[r] : s->own, 1);
                s->half[kind] = 0.5 * log_sum_value(sum);
            }
        }
}

/* ---- coefficients of one sample ---- */

static inline double affinity(double log_value) {
    return log_value > -6.907755278982137 /* log of the floor */ ? exp(log_value) : AFFINITY_FLOOR;
}

/* Writes c_ij folded on the rows of the cloud and returns their sum. The own row of X moves nothing and is left out.
 * work [3 * columns]. */
static double coefficients(const Term *t, const double *measure, ptrdiff_t sample, float radius,
                           const ColumnStats *stats, double *work, float *out) {
    double *logit = work, *pull = work + t->columns, *push = pull + t->columns;
    const double penalty = MASK_PENALTY / radius;
    LogSum row = LOG_SUM_EMPTY;
    for (size_t u = 0; u < t->columns; u++) {
        const Column *c = &t->column[u];
        logit[u] = logit_of(t, measure[u], radius);
        if (c->own == sample) {
            log_sum_add(&row, logit[u], c->count[OPEN]);
            log_sum_add(&row, logit[u] - penalty, c->count[MASKED]);
        } else {
            log_sum_add(&row, logit[u], c->count[OPEN] + c->count[MASKED]);
        }
    }
    const double half_row = 0.5 * log_sum_value(row);
    double attract = 0, repel = 0;
    for (size_t u = 0; u < t->columns; u++) {
        const Column *c = &t->column[u];
        pull[u] = push[u] = 0;
        for (int kind = OPEN; kind <= MASKED; kind++) {
            if (c->count[kind] == 0) continue;
            const double own = kind == MASKED && c->own == sample ? penalty : 0;
            const double a = affinity(logit[u] - own - half_row - stats[u].half[kind]);
            pull[u] += a * c->positive[kind];
            push[u] += a * c->negative[kind];
        }
        attract += pull[u];
        repel += push[u];
    }
    double sum = 0;
    for (size_t u = 0; u < t->columns; u++) {
        out[u] = (ptrdiff_t)u == sample ? 0.0f : (float)(pull[u] * repel - push[u] * attract);
        sum += out[u];
    }
    return sum;
}

/* ---- forces ---- */

typedef struct Field {
    const Term *term;
    Cloud *cloud;
    ColumnStats *stats; /* [radii, columns] */
    double *work;       /* [threads][3 * columns] */
    float *points;      /* [threads][columns, DRIFT_WIDTH]: one tile of centred coordinates */
    float *moved;       /* [threads][radii * DRIFT_ROWS, DRIFT_WIDTH] */
    float *coefficient; /* [radii * padded rows, columns] of the present block */
    double *sum;        /* [radii * DRIFT_ROWS]: sums of its rows */
    double *power;      /* [width tiles][radii]: sums of squares */
    float *force;       /* [radii, n, d] per radius, before division by its RMS */
} Field;

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
    double power = 0;
    for (size_t k = 0; k < width; k++) {
        const double v = (moved[k] - sum * (float)(x[k] - mean[k])) * per_unit;
        out[k] = (float)v;
        power += v * v;
    }
    return power;
}

/* One tile of coordinates of the forces of samples first..first+rows-1. */
static void force_tile(const Field *f, size_t first, size_t rows, size_t padded, size_t tile) {
    const Term *t = f->term;
    const Cloud *c = f->cloud;
    const size_t from = tile * DRIFT_WIDTH, width = from + DRIFT_WIDTH < c->dim ? DRIFT_WIDTH : c->dim - from;
    const size_t thread = (size_t)omp_get_thread_num(), stacked = (size_t)t->n_radii * padded;
    float *points = f->points + thread * t->columns * DRIFT_WIDTH;
    float *moved = f->moved + thread * (size_t)t->n_radii * DRIFT_ROWS * DRIFT_WIDTH;
    load_points(f, from, width, points);
    memset(moved, 0, stacked * DRIFT_WIDTH * sizeof(float));
    const size_t panels = (width + DRIFT_PANEL - 1) / DRIFT_PANEL;
    c->kernels->mix(f->coefficient, t->columns, stacked, points, t->columns, panels * DRIFT_PANEL, moved);
    for (size_t r = 0; r < (size_t)t->n_radii; r++)
        for (size_t i = 0; i < rows; i++) {
            const size_t line = r * padded + i;
            float *out = f->force + (r * c->samples + first + i) * c->dim + from;
            f->power[tile * (size_t)t->n_radii + r] +=
                settle_row(moved + line * DRIFT_WIDTH, c->row[first + i] + from, c->mean + from, f->sum[line],
                           1 / t->scale_per_dim, width, out);
        }
}

static void force_block(const Field *f, size_t first, size_t rows) {
    const Term *t = f->term;
    Cloud *c = f->cloud;
    const size_t padded = (rows + 7) / 8 * 8, tiles = (c->dim + DRIFT_WIDTH - 1) / DRIFT_WIDTH;
    const double *measure = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 4)
    for (size_t k = 0; k < (size_t)t->n_radii * padded; k++) {
        const size_t r = k / padded, i = k % padded;
        float *out = f->coefficient + k * t->columns;
        double *work = f->work + (size_t)omp_get_thread_num() * 3 * t->columns;
        if (i >= rows)
            memset(out, 0, t->columns * sizeof *out);
        else
            f->sum[k] = coefficients(t, measure + i * c->rows, (ptrdiff_t)(first + i), t->radii[r],
                                     f->stats + r * t->columns, work, out);
    }
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (size_t tile = 0; tile < tiles; tile++) force_tile(f, first, rows, padded, tile);
}

/* force = sum of F_r / rms_r, gradient and loss in closed form. */
static void combine(const Field *f, float *force, float *grad, float keep, float factor, double *row_loss,
                    DriftResult *result) {
    const Term *t = f->term;
    const Cloud *c = f->cloud;
    const double to_gradient = -2.0 * factor / ((double)c->samples * (double)c->dim * t->scale_per_dim);
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (size_t i = 0; i < c->samples; i++) {
        double loss = 0;
        for (size_t k = i * c->dim; k < (i + 1) * c->dim; k++) {
            double v = 0;
            for (int r = 0; r < t->n_radii; r++) v += f->force[(size_t)r * c->samples * c->dim + k] / result->rms[r];
            loss += v * v;
            if (force) force[k] = (float)v;
            if (grad) grad[k] = (float)((keep == 0 ? 0 : (double)keep * grad[k]) + to_gradient * v);
        }
        row_loss[i] = loss;
    }
    result->loss = 0;
    for (size_t i = 0; i < c->samples; i++) result->loss += row_loss[i];
    result->loss /= (double)c->samples * (double)c->dim;
}

static int run(Field *f, float *force, float *grad, float keep, float factor, double *row_loss, DriftResult *result,
               Error *err) {
    const Term *t = f->term;
    Cloud *c = f->cloud;
    const size_t tiles = (c->dim + DRIFT_WIDTH - 1) / DRIFT_WIDTH;
    column_statistics(t, c, f->stats);
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS)
        force_block(f, first, first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first);
    *result = (DriftResult){.scale = t->scale, .scale_per_dim = t->scale_per_dim};
    for (int r = 0; r < t->n_radii; r++) {
        double power = 0;
        for (size_t k = 0; k < tiles; k++) power += f->power[k * (size_t)t->n_radii + (size_t)r];
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
    const size_t radii = (size_t)t->n_radii, threads = (size_t)c->threads,
                 tiles = (c->dim + DRIFT_WIDTH - 1) / DRIFT_WIDTH;
    Field f = {.term = t, .cloud = c};
    f.stats = malloc(radii * t->columns * sizeof *f.stats);
    f.work = malloc(threads * 3 * t->columns * sizeof(double));
    f.points = malloc(threads * t->columns * DRIFT_WIDTH * sizeof(float));
    f.moved = malloc(threads * radii * DRIFT_ROWS * DRIFT_WIDTH * sizeof(float));
    f.coefficient = malloc(radii * DRIFT_ROWS * t->columns * sizeof(float));
    f.sum = malloc(radii * DRIFT_ROWS * sizeof(double));
    f.power = calloc(tiles * radii, sizeof(double));
    f.force = malloc(radii * c->samples * c->dim * sizeof(float));
    double *row_loss = malloc(c->samples * sizeof(double));
    int code = 0;
    if (!f.stats || !f.work || !f.points || !f.moved || !f.coefficient || !f.sum || !f.power || !f.force || !row_loss)
        code = fail(err, DRPO_E_MEMORY, "drift: no memory for the forces of %zu samples of %zu features", c->samples,
                    c->dim);
    else
        code = run(&f, force, grad, keep, factor, row_loss, result, err);
    free(f.stats);
    free(f.work);
    free(f.points);
    free(f.moved);
    free(f.coefficient);
    free(f.sum);
    free(f.power);
    free(f.force);
    free(row_loss);
    return code;
}
