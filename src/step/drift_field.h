/* Drift, inner parts of one term: arrays that its passes share (drift_term.c opens them, drift_statistics.c and
 * drift_force.c fill them). Columns are laid out one array per quantity and padded to whole tiles with targets of
 * weight 0. */
#ifndef DRPO_STEP_DRIFT_FIELD_H
#define DRPO_STEP_DRIFT_FIELD_H

#include "step/drift_internal.h"

enum { OPEN, MASKED };

/* A column with masked targets has them as its first kind and its open ones as the second; else open ones come first.
 */
typedef struct Field {
    const Term *term;
    Cloud *cloud;
    size_t padded; /* columns, rounded up to whole tiles */
    DriftCurve curve[MAX_RADII];
    double *count;        /* [padded] targets */
    double *weight[4];    /* [padded] positive and negative weight of the first, then of the second kind */
    DriftWeights weights; /* the same */
    ptrdiff_t *own_first; /* [samples] first of the columns whose own entry is this sample's, or -1 */
    ptrdiff_t *own_next;  /* [columns] the next of the same sample, or -1 */
    double *own_measure;  /* [columns] measure of the own entry */
    double *half;         /* [radii,padded] half the log-sum-exp of the column, first kind */
    double *half_open;    /* [radii,padded] of the open kind */
    double *open;         /* [radii,padded] exp(half - half_open), at most 1 */
    double *half_row;     /* [radii,samples] half the log-sum-exp of the row */
    double *power;        /* [tiles or blocks][radii]: sums of squares */
    size_t powers;        /* how many tiles or blocks */
    float *force;         /* [radii,n,d] per radius, before division by its RMS */
} Field;

/* ---- drift_term.c ---- */
/* Removes own entries from a tile of samples first.. x columns from..; keep: notes their measures. */
void field_mask_own(const Field *f, double *tile, size_t first, size_t rows, size_t from, bool keep);

/* ---- drift_statistics.c ---- */
int field_statistics(Field *f, Error *err);

/* ---- drift_force.c: by matrix products, with all coefficients of a block in memory ---- */
int field_dense(Field *f, Error *err);
/* Pull and push of column u on its own sample: out[0], out[1]. */
void field_own_pair(const Field *f, size_t radius, size_t u, double out[2]);

/* ---- drift_sparse.c: by exceptions from the floor of the affinity ---- */
int field_sparse(Field *f, Error *err);
size_t field_sparse_rows(const Field *f); /* samples per block */

static inline double field_logit(DriftCurve curve, double measure) {
    return measure * (curve.linear + curve.quadratic * measure);
}

static inline double field_sum(const double part[8]) {
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

#endif
