/* Statistics of the drift's two softmaxes: log-sum-exp of every column over samples and of every row over targets.
 *
 * Both are running sums over tiles of measures that never leave the caches: first the smallest measure, which is the
 * largest logit at every radius, then exponentials of differences to it. Columns go on over blocks of samples; what the
 * tiles of a block find about its rows is merged in the order of the tiles. In the update: between scale and forces. */
#include <math.h>
#include <stdlib.h>

#include "step/drift_field.h"

enum { ROW_GROUP = 16 }; /* rows that one thread merges */

static const double MASK_PENALTY = 100;
static const double LOWEST = -1e300; /* below any logit, with differences that are numbers */

/* log(sum of count * exp(logit)) kept as a running maximum and a sum. */
typedef struct LogSum {
    double max, sum;
} LogSum;

static double small_exp(double x) { return x < DRIFT_NEGLIGIBLE ? 0 : exp(x); }

static void log_sum_add(LogSum *s, double logit, double count) {
    if (count <= 0) return;
    if (logit > s->max) {
        s->sum = s->sum * small_exp(s->max - logit) + count;
        s->max = logit;
    } else {
        s->sum += count * small_exp(logit - s->max);
    }
}

static double half_log(LogSum s) { return 0.5 * (s.sum > 0 ? s.max + log(s.sum) : LOWEST); }

/* What the tiles of one block find about its rows. */
typedef struct Partial {
    double *least; /* [tiles,DRIFT_ROWS] */
    double *sum;   /* [tiles,radii,DRIFT_ROWS] */
} Partial;

static void visit_tile(const Field *f, const Partial *p, size_t first, size_t rows, size_t tile) {
    const size_t from = tile * DRIFT_COLUMNS, radii = (size_t)f->term->n_radii;
    const DriftKernels *kernels = f->cloud->kernels;
    double *least = p->least + tile * DRIFT_ROWS, *sum = p->sum + tile * radii * DRIFT_ROWS;
    double *measure = cloud_tile(f->cloud, first, rows, from, f->term->columns);
    field_mask_own(f, measure, first, rows, from, true);
    kernels->columns(measure, rows, f->curve, f->term->n_radii, f->padded, f->half + from, f->half_open + from);
    kernels->rows(measure, rows, f->count + from, f->curve, f->term->n_radii, least, sum);
    for (size_t i = rows; i % ROW_GROUP; i++) {
        least[i] = DRIFT_FAR;
        for (size_t r = 0; r < radii; r++) sum[r * DRIFT_ROWS + i] = 0;
    }
}

static void finish_rows(const Field *f, const Partial *p, size_t first, size_t rows, size_t start, size_t r) {
    const size_t tiles = f->padded / DRIFT_COLUMNS, radii = (size_t)f->term->n_radii;
    const DriftCurve curve = f->curve[r];
    const double penalty = MASK_PENALTY / (double)f->term->radii[r];
    double max[ROW_GROUP], sum[ROW_GROUP] = {0};
    for (size_t i = 0; i < ROW_GROUP; i++) max[i] = LOWEST;
    for (size_t tile = 0; tile < tiles; tile++)
        f->cloud->kernels->merge(p->least + tile * DRIFT_ROWS + start, p->sum + (tile * radii + r) * DRIFT_ROWS + start,
                                 ROW_GROUP, curve, max, sum);
    for (size_t i = start; i < rows && i < start + ROW_GROUP; i++) {
        LogSum row = {max[i - start], sum[i - start]};
        for (ptrdiff_t u = f->own_first[first + i]; u >= 0; u = f->own_next[u]) {
            const double own = field_logit(curve, f->own_measure[u]);
            log_sum_add(&row, own, f->term->column[u].count[OPEN]);
            log_sum_add(&row, own - penalty, f->term->column[u].count[MASKED]);
        }
        f->half_row[r * f->cloud->samples + first + i] = half_log(row);
    }
}

static void visit_block(const Field *f, const Partial *p, size_t first, size_t rows) {
    const size_t tiles = f->padded / DRIFT_COLUMNS, groups = (rows + ROW_GROUP - 1) / ROW_GROUP;
#pragma omp parallel num_threads(f->cloud->threads)
    {
#pragma omp for schedule(dynamic, 2)
        for (size_t tile = 0; tile < tiles; tile++) visit_tile(f, p, first, rows, tile);
#pragma omp for schedule(dynamic)
        for (size_t k = 0; k < groups * (size_t)f->term->n_radii; k++)
            finish_rows(f, p, first, rows, k % groups * ROW_GROUP, k / groups);
    }
}

static void finish_column(const Field *f, size_t r, size_t u) {
    const size_t at = r * f->padded + u;
    const Column *c = &f->term->column[u];
    const double own = c->own >= 0 ? field_logit(f->curve[r], f->own_measure[u]) : 0;
    const double penalty = MASK_PENALTY / (double)f->term->radii[r];
    double half[2];
    for (int kind = OPEN; kind <= MASKED; kind++) {
        LogSum sum = {f->half[at], f->half_open[at]};
        if (c->own >= 0) log_sum_add(&sum, kind == MASKED ? own - penalty : own, 1);
        half[kind] = half_log(sum);
    }
    f->half[at] = half[c->count[MASKED] > 0 ? MASKED : OPEN];
    f->half_open[at] = half[OPEN];
    f->open[at] = exp(f->half[at] - half[OPEN]);
}

int field_statistics(Field *f, Error *err) {
    const size_t tiles = f->padded / DRIFT_COLUMNS, radii = (size_t)f->term->n_radii, samples = f->cloud->samples;
    Partial p = {malloc(tiles * DRIFT_ROWS * sizeof(double)), malloc(tiles * radii * DRIFT_ROWS * sizeof(double))};
    if (p.least && p.sum) {
        for (size_t k = 0; k < radii * f->padded; k++) f->half[k] = LOWEST; /* until finished: maximum and sum */
        for (size_t first = 0; first < samples; first += DRIFT_ROWS)
            visit_block(f, &p, first, first + DRIFT_ROWS < samples ? DRIFT_ROWS : samples - first);
#pragma omp parallel for num_threads(f->cloud->threads) schedule(static)
        for (size_t u = 0; u < f->padded; u++)
            for (size_t r = 0; r < radii; r++) {
                if (u < f->term->columns)
                    finish_column(f, r, u);
                else
                    f->half[r * f->padded + u] = 0;
            }
    }
    const bool fits = p.least && p.sum;
    free(p.least);
    free(p.sum);
    return fits ? 0 : fail(err, DRPO_E_MEMORY, "drift: no memory for the statistics of %zu targets", f->term->columns);
}
