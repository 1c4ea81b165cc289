/* Soft drift, second half: from the candidates' weights to force, loss and gradient. See drift_soft.h. */
#include "step/drift_soft.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift_internal.h"

/* ---- awr, awr-contrast, awr-topk: differences of means under a row softmax ---- */

enum { SOFT_ROWS = 5 }; /* arrays of one row in a thread's scratch */

/* Coefficients below this share of 1 move nothing: forces are divided by an RMS of at least 1e-4. */
#define SOFT_NEGLIGIBLE 1e-24

typedef struct Soft {
    Cloud cloud; /* policy rows, then reference rows */
    const SoftWeights *weights;
    const DriftOptions *drift;
    size_t tokens, padded; /* samples, rounded up to whole vectors */
    double scale, unit;    /* of the kernel, of the coordinates */
    double *shift[3];      /* [padded] logarithms of the rows' weights: as attractors, as repellers, none */
    double *force;         /* [n,d] of one radius */
    double *total;         /* [n,d] sum of F_r / rms_r */
    double *work;          /* [threads][SOFT_ROWS * padded] */
} Soft;

static void find_scale(Soft *s) {
    Cloud *c = &s->cloud;
    double sum = 0;
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS) {
        const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
        const double *distance = cloud_measure(c, first, rows);
        for (size_t k = 0; k < rows * c->rows; k++) sum += distance[k];
    }
    s->scale = fmax(sum / ((double)c->samples * (double)c->rows), 1e-3);
    s->unit = fmax(s->scale / sqrt((double)c->dim), 1e-3);
}

static void spread_weights(Soft *s) {
    const size_t n = s->cloud.samples;
    for (size_t j = 0; j < s->padded; j++) {
        s->shift[0][j] = j < n ? s->weights->up[j / s->tokens] : 0;
        s->shift[1][j] = j < n ? s->weights->down[j / s->tokens] : 0;
        s->shift[2][j] = 0;
    }
}

/* out += coefficients times differences from sample i, of rows first..first+n-1 of the cloud. */
static void drag_rows(const Soft *s, const double *coefficient, size_t first, size_t i, double *out) {
    const Cloud *c = &s->cloud;
    for (size_t u = 0; u < c->samples; u++)
        if (fabs(coefficient[u]) > SOFT_NEGLIGIBLE)
            c->kernels->drag(c->row[first + u], c->row[i], coefficient[u] / s->unit, c->dim, out);
}

/* F_r of one sample, and its sum of squares. measure [rows], work [SOFT_ROWS * padded]. */
static double row_force(const Soft *s, const double *measure, size_t i, DriftCurve curve, double *work) {
    const Cloud *c = &s->cloud;
    const size_t n = c->samples, dim = c->dim, padded = s->padded;
    double *near = work, *base = near + padded, *part = base + padded, *own = part + padded, *held = own + padded;
    double *out = s->force + i * dim, power = 0;
    for (size_t u = n; u < padded; u++) near[u] = base[u] = DRIFT_FAR;
    memcpy(near, measure, n * sizeof *near);
    memcpy(base, measure + n, n * sizeof *base);
    memset(own, 0, 2 * padded * sizeof *own);
    c->kernels->soften(near, s->shift[0], padded, curve, 1, part, own);
    c->kernels->soften(near, s->shift[1], padded, curve, -1, part, own);
    c->kernels->soften(base, s->shift[2], padded, curve, 1, part, held);
    memset(out, 0, dim * sizeof *out);
    drag_rows(s, own, 0, i, out);
    drag_rows(s, held, n, i, out);
    for (size_t k = 0; k < dim; k++) power += out[k] * out[k];
    return power;
}

static double add_radius(Soft *s, double radius, double factor, double *row_power) {
    Cloud *c = &s->cloud;
    const DriftCurve curve = drift_curve(s->drift->kernel, s->scale, radius);
    double power = 0;
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS) {
        const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
        const double *measure = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(static)
        for (size_t i = 0; i < rows; i++)
            row_power[first + i] = row_force(s, measure + i * c->rows, first + i, curve,
                                             s->work + (size_t)omp_get_thread_num() * SOFT_ROWS * s->padded);
    }
    const size_t count = c->samples * c->dim;
    for (size_t i = 0; i < c->samples; i++) power += row_power[i];
    const double rms = sqrt(fmax(power / (double)count, 1e-8));
    for (size_t k = 0; k < count; k++) s->total[k] += factor * s->force[k] / rms;
    return rms;
}

static void run_means(Soft *s, const SoftOptions *o, const FeatureSet *set, double *row_power, DriftResult *result) {
    const DriftOptions *d = s->drift;
    const size_t count = s->cloud.samples * s->cloud.dim;
    find_scale(s);
    spread_weights(s);
    *result = (DriftResult){.scale = s->scale, .scale_per_dim = s->unit};
    if (d->kernel == 2) cloud_use_cosine(&s->cloud);
    const double factor = o->objective == OBJECTIVE_AWR_TOPK ? o->force : 1;
    for (int r = 0; r < d->n_radii; r++) result->rms[r] = add_radius(s, d->radii[r], factor, row_power);
    const double to_gradient = -2.0 * o->weight / ((double)count * s->unit);
    for (size_t k = 0; k < count; k++) {
        result->loss += s->total[k] * s->total[k] / (double)count;
        set->grad[k] = (float)(to_gradient * s->total[k]);
    }
}

static int drift_means(const FeatureSet *set, size_t samples, const SoftWeights *w, const SoftOptions *o,
                       const DriftOptions *drift, int threads, DriftResult *result, Error *err) {
    const float *base[2] = {set->policy, set->reference};
    const size_t count[2] = {samples, samples}, numbers = samples * (size_t)set->dim;
    Soft s = {.weights = w, .drift = drift, .tokens = (size_t)set->tokens, .padded = (samples + 7) / 8 * 8};
    TRY(cloud_open(&s.cloud, 2, base, count, (size_t)set->dim, threads, err));
    s.force = malloc(numbers * sizeof(double));
    s.total = calloc(numbers, sizeof(double));
    s.work = malloc((size_t)s.cloud.threads * SOFT_ROWS * s.padded * sizeof(double));
    double *shift = malloc(3 * s.padded * sizeof(double)), *row_power = malloc(samples * sizeof(double));
    const bool fits = s.force && s.total && s.work && shift && row_power;
    for (size_t k = 0; k < 3; k++) s.shift[k] = shift ? shift + k * s.padded : NULL;
    if (fits) run_means(&s, o, set, row_power, result);
    free(s.force);
    free(s.total);
    free(s.work);
    free(shift);
    free(row_power);
    cloud_close(&s.cloud);
    return fits ? 0 : fail(err, DRPO_E_MEMORY, "drift: no memory for the forces of %zu samples", samples);
}

/* ---- awr-hard, awr-advsign: the field of drift.h with a weight for every candidate ---- */

/* weight * members * softmax of the logarithms: the weights of the members average to `weight`. */
static void softmax_weights(const double *logarithm, int n, int members, double weight, double *out) {
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) most = fmax(most, logarithm[i]);
    for (int i = 0; i < n; i++) sum += exp(logarithm[i] - most);
    for (int i = 0; i < n; i++) out[i] = weight * members * exp(logarithm[i] - most) / sum;
}

/* advsign keeps candidates of weight 0 among the targets, where they share in the softmax. */
static void add_targets(Term *t, const double *logarithm, const double *weight, int n, size_t tokens, bool positive,
                        bool everybody) {
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < tokens && (everybody || logarithm[i] > -INFINITY); k++)
            term_add(t, (size_t)i * tokens + k, weight[i], positive, -1);
}

static int drift_weighted(const FeatureSet *set, int n, const SoftWeights *w, const SoftOptions *o,
                          const DriftOptions *drift, int threads, DriftResult *result, Error *err) {
    const size_t tokens = (size_t)set->tokens, samples = (size_t)n * tokens;
    const bool everybody = o->objective == OBJECTIVE_AWR_ADVSIGN;
    const float *base[1] = {set->policy};
    double up[MAX_CANDIDATES], down[MAX_CANDIDATES];
    Cloud cloud;
    Term term;
    softmax_weights(w->up, n, w->n_up, drift->w_pos, up);
    softmax_weights(w->down, n, w->n_down, drift->w_neg, down);
    TRY(cloud_open(&cloud, 1, base, &samples, (size_t)set->dim, threads, err));
    int code = term_open(&term, samples, samples, err);
    if (code == 0) {
        add_targets(&term, w->down, down, n, tokens, false, everybody);
        add_targets(&term, w->up, up, n, tokens, true, everybody);
        term.radii = drift->radii;
        term.n_radii = drift->n_radii;
        term.kernel = drift->kernel;
        term_scale(&term, &cloud);
        if (drift->kernel == 2) cloud_use_cosine(&cloud);
        code = term_field(&term, &cloud, NULL, set->grad, 0, o->weight, result, err);
    }
    term_close(&term);
    cloud_close(&cloud);
    return code;
}

int drift_soft(const FeatureSet *set, int candidates, const double *y, const SoftOptions *o, const DriftOptions *drift,
               int threads, DriftResult *result, Error *err) {
    SoftWeights w;
    if (o->objective == OBJECTIVE_BINARY || !(o->alpha > 0) || candidates < 1 || candidates > MAX_CANDIDATES)
        return fail(err, DRPO_E_INTERNAL, "drift: objective %d with alpha %g and %d candidates", (int)o->objective,
                    (double)o->alpha, candidates);
    drift_soft_weights(o, y, candidates, &w);
    if (!drift_soft_needs_reference(o->objective))
        return drift_weighted(set, candidates, &w, o, drift, threads, result, err);
    return drift_means(set, (size_t)candidates * (size_t)set->tokens, &w, o, drift, threads, result, err);
}
