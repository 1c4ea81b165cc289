/* Soft drift, second half: from the candidates' weights to force, loss and gradient. See drift_soft.h. */
#include "step/drift_soft.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "step/drift_internal.h"

/* ---- awr, awr-contrast, awr-topk: differences of means under a row softmax ---- */

typedef struct Soft {
    Cloud cloud; /* policy rows, then reference rows */
    const SoftWeights *weights;
    const DriftOptions *drift;
    size_t tokens;
    double scale, unit; /* of the kernel, of the coordinates */
    double *force;      /* [n,d] of one radius */
    double *total;      /* [n,d] sum of F_r / rms_r */
    double *work;       /* [threads][2 rows] */
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

/* Adds sign * softmax(logit + log weight of the candidate) to the coefficients; log_weight NULL: none. */
static void add_softmax(const double *logit, size_t n, const double *log_weight, size_t tokens, double sign,
                        double *coefficient) {
    double most = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) most = fmax(most, logit[j] + (log_weight ? log_weight[j / tokens] : 0));
    for (size_t j = 0; j < n; j++) sum += exp(logit[j] + (log_weight ? log_weight[j / tokens] : 0) - most);
    for (size_t j = 0; j < n; j++)
        coefficient[j] += sign * exp(logit[j] + (log_weight ? log_weight[j / tokens] : 0) - most) / sum;
}

/* F_r of one sample, and its sum of squares. measure [rows], work [2 rows]. */
static double row_force(const Soft *s, const double *measure, size_t i, double radius, double *work) {
    const Cloud *c = &s->cloud;
    const size_t n = c->samples, dim = c->dim;
    double *logit = work, *coefficient = work + c->rows, *out = s->force + i * dim, power = 0;
    for (size_t u = 0; u < c->rows; u++) logit[u] = drift_logit(s->drift->kernel, s->scale, measure[u], radius);
    memset(coefficient, 0, c->rows * sizeof *coefficient);
    add_softmax(logit, n, s->weights->up, s->tokens, 1, coefficient);
    add_softmax(logit, n, s->weights->down, s->tokens, -1, coefficient);
    add_softmax(logit + n, n, NULL, 1, 1, coefficient + n);
    memset(out, 0, dim * sizeof *out);
    for (size_t u = 0; u < c->rows; u++)
        for (size_t k = 0; k < dim && coefficient[u] != 0; k++)
            out[k] += coefficient[u] * ((double)c->row[u][k] - c->row[i][k]) / s->unit;
    for (size_t k = 0; k < dim; k++) power += out[k] * out[k];
    return power;
}

static double add_radius(Soft *s, double radius, double factor, double *row_power) {
    Cloud *c = &s->cloud;
    double power = 0;
    for (size_t first = 0; first < c->samples; first += DRIFT_ROWS) {
        const size_t rows = first + DRIFT_ROWS < c->samples ? DRIFT_ROWS : c->samples - first;
        const double *measure = cloud_measure(c, first, rows);
#pragma omp parallel for num_threads(c->threads) schedule(static)
        for (size_t i = 0; i < rows; i++)
            row_power[first + i] = row_force(s, measure + i * c->rows, first + i, radius,
                                             s->work + (size_t)omp_get_thread_num() * 2 * c->rows);
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
    Soft s = {.weights = w, .drift = drift, .tokens = (size_t)set->tokens};
    TRY(cloud_open(&s.cloud, 2, base, count, (size_t)set->dim, threads, err));
    s.force = malloc(numbers * sizeof(double));
    s.total = calloc(numbers, sizeof(double));
    s.work = malloc((size_t)s.cloud.threads * 2 * s.cloud.rows * sizeof(double));
    double *row_power = malloc(samples * sizeof(double));
    const bool fits = s.force && s.total && s.work && row_power;
    if (fits) run_means(&s, o, set, row_power, result);
    free(s.force);
    free(s.total);
    free(s.work);
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
