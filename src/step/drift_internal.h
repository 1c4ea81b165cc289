/* Drift, inner parts: the point cloud with its pair measures, and the two products that carry the cost.
 *
 * A cloud is the list of DISTINCT rows that take part: the samples X first, then whatever is not a row of X. Targets
 * that repeat a row of X (the selected candidates, or X as its own negatives) are columns of X with another weight, so
 * their distances and their share of the force are computed once. */
#ifndef DRPO_STEP_DRIFT_INTERNAL_H
#define DRPO_STEP_DRIFT_INTERNAL_H

#include "step/drift.h"

enum {
    DRIFT_ROWS = 128,   /* samples per streamed block */
    DRIFT_COLUMNS = 64, /* targets per tile of pair products */
    DRIFT_TILE = 72,    /* row stride of a tile of measures: DRIFT_COLUMNS and some, so that rows share no cache set */
    DRIFT_DEPTH = 256,  /* coordinates (or targets) per partial sum */
    DRIFT_PANEL = 32,   /* coordinates that lie side by side in a tile of points */
    DRIFT_WIDTH = 128   /* coordinates per tile of the force */
};

#define DRIFT_FAR 1e150      /* measure of entries that take no part: columns beyond the last, masked entries */
#define DRIFT_NEAR 1e-8      /* squared distances below this share of the squared norms are computed by difference */
#define DRIFT_NEGLIGIBLE -45 /* exp of less adds nothing to a float64 sum */
#define DRIFT_FLOOR 1e-3     /* of the affinity: root of the floor 1e-6 of the product of both softmaxes */

/* Logit of a measure m at one radius: m (linear + quadratic m). It falls with m. */
typedef struct DriftCurve {
    double linear, quadratic;
} DriftCurve;

/* Weights of the targets that share a row of the cloud: [0] of its first kind, [1] of the open ones beside masked. */
typedef struct DriftWeights {
    const double *positive[2], *negative[2];
} DriftWeights;

/* ---- inner loops, one set per instruction set (drift_kernels.c) ---- */
typedef struct DriftKernels {
    /* out[i][j] += sum_k a[i][k] b[j][k] in float64. a [rows,DRIFT_DEPTH], b [columns,DRIFT_DEPTH], out
     * [rows,DRIFT_COLUMNS]; rows and columns are multiples of 4, depth a multiple of 8. */
    void (*dots)(const double *a, const double *b, size_t rows, size_t columns, size_t depth, double *out);
    /* out[i][k] += sum_j c[i][j] points[j][k]. c [rows,stride], points in panels [width/DRIFT_PANEL,count,DRIFT_PANEL],
     * out [rows,DRIFT_WIDTH]; rows is a multiple of 8, width of DRIFT_PANEL. Partial sums of DRIFT_DEPTH targets keep
     * float32 rounding independent of count. */
    void (*mix)(const float *c, size_t stride, size_t rows, const float *points, size_t count, size_t width,
                float *out);
    /* All below work on tiles of measures [rows,DRIFT_TILE], of which DRIFT_COLUMNS numbers a row count. */
    /* tile = sqrt(max(row_square + column_square - 2 product, 1e-8)); margin[i]: the least of square - DRIFT_NEAR *
     * norms in the row. product [rows,DRIFT_COLUMNS]. */
    void (*distances)(const double *product, const double *row_square, const double *column_square, size_t rows,
                      double *tile, double *margin);
    double (*weigh)(const double *tile, size_t rows, const double *weight); /* sum of weight[u] tile[i][u] */
    /* Running log-sum-exp of each column at each curve: max, sum [curves,stride]. */
    void (*columns)(const double *tile, size_t rows, const DriftCurve *curve, int curves, size_t stride, double *max,
                    double *sum);
    /* Smallest measure of each row; sum [curves,DRIFT_ROWS] of count[u] exp(logit - logit of the smallest). */
    void (*rows)(const double *tile, size_t rows, const double *count, const DriftCurve *curve, int curves,
                 double *least, double *sum);
    /* Adds what `rows` found in one tile to the running log-sum-exp of `count` rows, a multiple of 8. */
    void (*merge)(const double *least, const double *part, size_t count, DriftCurve curve, double *max, double *sum);
    /* out[i] = max over u of logit - half[u] */
    void (*strongest)(const double *tile, size_t rows, const double *half, DriftCurve curve, double *out);
    /* One row, count a multiple of 8: with a = exp(logit - half_row - half), pull = sum over k of max(a, floor)
     * positive[k], with a open instead of a for k = 1; push likewise; sums: of pull, of push. */
    void (*affinities)(const double *measure, size_t count, DriftCurve curve, double half_row, const double *half,
                       const double *open, const DriftWeights *w, double *pull, double *push, double sums[2]);
    /* out = pull repel - push attract; returns the sum of out. count is a multiple of 8. */
    double (*coefficients)(const double *pull, const double *push, size_t count, double attract, double repel,
                           float *out);
    void (*drag)(const float *to, const float *from, double weight, size_t dim,
                 double *out); /* += weight (to - from) */
    /* coefficient[u] += sign softmax(logit + shift)[u]; part [count] is scratch, count a multiple of 8. */
    void (*soften)(const double *measure, const double *shift, size_t count, DriftCurve curve, double sign,
                   double *part, double *coefficient);
} DriftKernels;

/* The fastest set that the processor has, up to level 0 (portable), 1 (AVX2) or 2 (AVX-512). */
enum { DRIFT_KERNELS_BEST = 2 };
const DriftKernels *drift_kernels(int level);

/* ---- the cloud (drift_cloud.c) ---- */
typedef struct Cloud {
    size_t samples, rows, dim; /* the first `samples` rows are X */
    const float **row;         /* [rows] each [dim] */
    double *mean;              /* [dim] subtracted before products: the field does not depend on it, rounding does */
    double *square;            /* [rows] squared norm after centring (cosine: before) */
    bool cosine;               /* measure = -cos(x_i, t_j) instead of the distance */
    bool filled;               /* cache holds the present measure */
    double *cache;             /* [samples,rows], NULL when too large to keep */
    double *block;             /* [DRIFT_ROWS,rows] used when there is no cache */
    double *scratch;           /* [threads][CLOUD_SCRATCH] */
    size_t *loaded;            /* [threads] which samples lie in the scratch, 0: none */
    int threads;
    const DriftKernels *kernels;
} Cloud;

/* Segments are laid one after another: count[k] rows starting at base[k]; segment 0 is X. threads 0: threads_default().
 */
int cloud_open(Cloud *c, int segments, const float *const *base, const size_t *count, size_t dim, int threads,
               Error *err);
void cloud_close(Cloud *c);
/* Measures of samples first..first+count-1 (count <= DRIFT_ROWS) to all rows, [count,rows]; valid until the next call.
 */
const double *cloud_measure(Cloud *c, size_t first, size_t count);
/* Measures of samples first..first+count-1 (count <= DRIFT_ROWS) to rows from..from+DRIFT_COLUMNS-1 in a tile of the
 * calling thread, valid until its next call; rows from `limit` on are DRIFT_FAR. Call cloud_ready before threads start.
 */
double *cloud_tile(const Cloud *c, size_t first, size_t count, size_t from, size_t limit);
void cloud_ready(Cloud *c);
/* From now on the measure is -cos, of vectors with norms floored at 1e-8. */
void cloud_use_cosine(Cloud *c);

/* ---- one term on a cloud (drift_term.c) ---- */

/* Logits of the distance (cosine: of -cos): -d / scale / radius, or rbf: half the square of that, negative. */
static inline DriftCurve drift_curve(int kernel, double scale, double radius) {
    if (kernel == 2) return (DriftCurve){-1 / radius, 0};
    const double per_unit = 1 / (scale * radius);
    return kernel == 1 ? (DriftCurve){0, -0.5 * per_unit * per_unit} : (DriftCurve){-per_unit, 0};
}

/* What the targets that share one row of the cloud add up to; index 0: open, 1: masked at sample `own`. */
typedef struct Column {
    double count[2], negative[2], positive[2]; /* targets, their weights */
    ptrdiff_t own;                             /* the sample whose own entry is masked, or -1 */
} Column;

typedef struct Term {
    Column *column; /* [columns]: the first rows of the cloud */
    size_t columns;
    double targets, weight_sum; /* n + m + p and the sum of their weights */
    const float *radii;
    int n_radii, kernel;
    double scale, scale_per_dim;
    size_t dense_columns; /* forces of at most so many columns are products of matrices, else sums over exceptions */
} Term;

int term_open(Term *t, size_t columns, size_t samples, Error *err); /* with the X block: weight 1, own entry masked */
void term_close(Term *t);
void term_add(Term *t, size_t row, double weight, bool positive, ptrdiff_t masked_at);
void term_scale(Term *t, Cloud *c);
/* The field: force (may be NULL) [n,d]; grad (may be NULL): grad = keep * grad + factor * d(loss)/dX. */
int term_field(const Term *t, Cloud *c, float *force, float *grad, float keep, float factor, DriftResult *result,
               Error *err);

#endif
