/* Forces of many targets: the affinity a_ij = max(e_ij, floor) is its floor but for few pairs.
 *
 * Rows of one softmax and columns of the other sum to 1, so that at most 1000 pairs a sample (on average over samples
 * and targets) exceed 1e-3 = floor. With P, N the sums of weights and of weighted points of attractors and repellers,
 *
 *     S+ = floor P + sum (a - floor) w,   F = S- (floor sum w (t - x) + sum (a - floor) w (t - x)) - S+ (...),
 *
 * the first sums are one vector for all samples and the second run over exceptions. Tiles of measures are computed,
 * compared and forgotten; memory is O(n d). In the update: after the statistics of both softmaxes. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift_field.h"

enum { SUMS_BYTES = 4 << 20, LEAST_ROWS = 32 };

static const double LOG_FLOOR = -6.907755278982137;

/* Two sums each: of attractors, of repellers. */
typedef struct Sparse {
    const Field *field;
    size_t rows;      /* samples per block */
    double weight[2]; /* of all targets */
    double *centre;   /* [2,d] sum of weight * (t - mean) */
    double *force;    /* [threads][radii,rows,2,d] sum of (a - floor) w (t - x) */
    double *share;    /* [threads][radii,rows,2] sum of (a - floor) w */
} Sparse;

/* The present block of the calling thread. */
typedef struct Block {
    size_t first, rows;
    double *force, *share;
} Block;

size_t field_sparse_rows(const Field *f) {
    const size_t row = (size_t)f->term->n_radii * 2 * f->cloud->dim * sizeof(double), fit = SUMS_BYTES / row / 8 * 8;
    return fit < LEAST_ROWS ? LEAST_ROWS : fit < DRIFT_ROWS ? fit : DRIFT_ROWS;
}

static void find_centre(Sparse *s) {
    const Field *f = s->field;
    const Cloud *c = f->cloud;
    for (size_t u = 0; u < f->term->columns; u++)
        for (int side = 0; side < 2; side++) s->weight[side] += f->weight[side][u] + f->weight[side + 2][u];
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (size_t start = 0; start < c->dim; start += DRIFT_DEPTH)
        for (size_t u = 0; u < f->term->columns; u++)
            for (int side = 0; side < 2; side++) {
                const double w = f->weight[side][u] + f->weight[side + 2][u];
                double *out = s->centre + (size_t)side * c->dim;
                for (size_t k = start; w != 0 && k < c->dim && k < start + DRIFT_DEPTH; k++)
                    out[k] += w * (c->row[u][k] - c->mean[k]);
            }
}

/* Pull and push beyond the floor of column u on row i of the block. */
static void add_pair(const Sparse *s, const Block *b, size_t r, size_t i, size_t u, const double excess[2]) {
    const Cloud *c = s->field->cloud;
    const size_t at = (r * s->rows + i) * 2;
    for (size_t side = 0; side < 2; side++) {
        if (excess[side] == 0) continue;
        b->share[at + side] += excess[side];
        if (u != b->first + i)
            c->kernels->drag(c->row[u], c->row[b->first + i], excess[side], c->dim, b->force + (at + side) * c->dim);
    }
}

static void add_own_pairs(const Sparse *s, const Block *b, size_t from) {
    const Field *f = s->field;
    for (size_t u = from; u < f->term->columns && u < from + DRIFT_COLUMNS; u++) {
        const ptrdiff_t own = f->term->column[u].own;
        if (own < (ptrdiff_t)b->first || own >= (ptrdiff_t)(b->first + b->rows)) continue;
        for (size_t r = 0; r < (size_t)f->term->n_radii; r++) {
            double pair[2];
            field_own_pair(f, r, u, pair);
            for (int side = 0; side < 2; side++)
                pair[side] -= DRIFT_FLOOR * (f->weight[side][u] + f->weight[side + 2][u]);
            add_pair(s, b, r, (size_t)own - b->first, u, pair);
        }
    }
}

/* The exceptions of one row of a tile, whose log affinities are compared with that of the floor. */
static void add_row(const Sparse *s, const Block *b, const double *measure, size_t r, size_t i, size_t from) {
    const Field *f = s->field;
    const double *half = f->half + r * f->padded + from, *open = f->open + r * f->padded + from;
    const double half_row = f->half_row[r * f->cloud->samples + b->first + i];
    for (size_t k = 0; k < DRIFT_COLUMNS; k++) {
        const double value = field_logit(f->curve[r], measure[k]) - half[k] - half_row;
        if (value <= LOG_FLOOR) continue;
        const size_t u = from + k;
        const double a = exp(value), first = fmax(a - DRIFT_FLOOR, 0), second = fmax(a * open[k] - DRIFT_FLOOR, 0);
        const double excess[2] = {first * f->weight[0][u] + second * f->weight[2][u],
                                  first * f->weight[1][u] + second * f->weight[3][u]};
        add_pair(s, b, r, i, u, excess);
    }
}

static void visit_tile(const Sparse *s, const Block *b, size_t from) {
    const Field *f = s->field;
    double strongest[DRIFT_ROWS];
    double *tile = cloud_tile(f->cloud, b->first, b->rows, from, f->term->columns);
    field_mask_own(f, tile, b->first, b->rows, from, false);
    for (size_t r = 0; r < (size_t)f->term->n_radii; r++) {
        const double *half_row = f->half_row + r * f->cloud->samples + b->first;
        f->cloud->kernels->strongest(tile, b->rows, f->half + r * f->padded + from, f->curve[r], strongest);
        for (size_t i = 0; i < b->rows; i++)
            if (strongest[i] - half_row[i] > LOG_FLOOR) add_row(s, b, tile + i * DRIFT_TILE, r, i, from);
    }
    add_own_pairs(s, b, from);
}

/* F_r,i from its sums; returns the sum of squares. */
static double settle_row(const Sparse *s, const Block *b, size_t r, size_t i) {
    const Cloud *c = s->field->cloud;
    const size_t at = (r * s->rows + i) * 2, sample = b->first + i;
    const double attract = DRIFT_FLOOR * s->weight[0] + b->share[at],
                 repel = DRIFT_FLOOR * s->weight[1] + b->share[at + 1];
    const double *pull = b->force + at * c->dim, *push = pull + c->dim;
    const double per_unit = 1 / s->field->term->scale_per_dim;
    float *out = s->field->force + (r * c->samples + sample) * c->dim;
    double power[8] = {0};
    for (size_t k = 0; k < c->dim; k++) {
        const double x = c->row[sample][k] - c->mean[k];
        const double to = DRIFT_FLOOR * (s->centre[k] - s->weight[0] * x) + pull[k];
        const double away = DRIFT_FLOOR * (s->centre[c->dim + k] - s->weight[1] * x) + push[k];
        const double v = (repel * to - attract * away) * per_unit;
        out[k] = (float)v;
        power[k % 8] += v * v;
    }
    return field_sum(power);
}

static void force_block(const Sparse *s, size_t block) {
    const Field *f = s->field;
    const size_t radii = (size_t)f->term->n_radii, samples = f->cloud->samples, sums = radii * s->rows * 2;
    const size_t thread = (size_t)omp_get_thread_num(), first = block * s->rows;
    const Block b = {first, first + s->rows < samples ? s->rows : samples - first,
                     s->force + thread * sums * f->cloud->dim, s->share + thread * sums};
    memset(b.force, 0, sums * f->cloud->dim * sizeof(double));
    memset(b.share, 0, sums * sizeof(double));
    for (size_t from = 0; from < f->term->columns; from += DRIFT_COLUMNS) visit_tile(s, &b, from);
    for (size_t r = 0; r < radii; r++)
        for (size_t i = 0; i < b.rows; i++) f->power[block * radii + r] += settle_row(s, &b, r, i);
}

int field_sparse(Field *f, Error *err) {
    const size_t dim = f->cloud->dim, threads = (size_t)f->cloud->threads;
    Sparse s = {.field = f, .rows = field_sparse_rows(f)};
    const size_t sums = threads * (size_t)f->term->n_radii * s.rows * 2;
    s.centre = calloc(2 * dim, sizeof(double));
    s.force = malloc(sums * dim * sizeof(double));
    s.share = malloc(sums * sizeof(double));
    const bool fits = s.centre && s.force && s.share;
    if (fits) {
        find_centre(&s);
#pragma omp parallel for num_threads(f->cloud->threads) schedule(dynamic)
        for (size_t block = 0; block < f->powers; block++) force_block(&s, block);
    }
    free(s.centre);
    free(s.force);
    free(s.share);
    return fits ? 0 : fail(err, DRPO_E_MEMORY, "drift: no memory for the forces of %zu targets", f->term->columns);
}
