/* Drift: where each candidate's features should move, as a force and as the gradient of the regression onto it.
 *
 * Preference term: attracted by the best, repelled by the worst. Reference term: attracted by the frozen generator on
 * the same noise, repelled by the other candidates. Both are the same field with other targets; gradient in closed
 * form, no graph. In the update: features -> drift -> gradient. */
#include "step/drift.h"

#include <math.h>

#include "step/drift_internal.h"

static int check_options(const float *radii, int n_radii, int kernel, Error *err) {
    if (kernel < 0 || kernel > 2)
        return fail(err, DRPO_E_USAGE, "drift: kernel %d is unknown; use 0 (laplacian), 1 (rbf) or 2 (cosine)", kernel);
    if (n_radii < 1 || n_radii > MAX_RADII)
        return fail(err, DRPO_E_USAGE, "drift: %d radii given; give 1 to %d", n_radii, MAX_RADII);
    for (int r = 0; r < n_radii; r++)
        if (!(radii[r] > 0) || !isfinite(radii[r]))
            return fail(err, DRPO_E_USAGE, "drift: radius %g must be greater than 0", (double)radii[r]);
    return 0;
}

static int check_weight(const char *name, float value, Error *err) {
    if (value >= 0 && isfinite(value)) return 0;
    return fail(err, DRPO_E_USAGE, "drift: %s %g must be a number of at least 0", name, (double)value);
}

static int check_input(const DriftInput *in, Error *err) {
    if (!in->n || !in->d)
        return fail(err, DRPO_E_USAGE, "drift: %zu samples of %zu features; both must be at least 1", in->n, in->d);
    if (!in->p || !in->m)
        return fail(err, DRPO_E_USAGE, "drift: %zu positives and %zu negatives; both must be at least 1", in->p, in->m);
    if (in->mask_negative_self && in->m != in->n)
        return fail(err, DRPO_E_USAGE,
                    "drift: masking the negatives' diagonal needs as many negatives (%zu) as samples (%zu)", in->m,
                    in->n);
    if (in->mask_positive_self && in->p != in->n)
        return fail(err, DRPO_E_USAGE,
                    "drift: masking the positives' diagonal needs as many positives (%zu) as samples (%zu)", in->p,
                    in->n);
    TRY(check_weight("weight of the positives", in->w_pos, err));
    TRY(check_weight("weight of the negatives", in->w_neg, err));
    return check_options(in->radii, in->n_radii, in->kernel, err);
}

static int fill_term(const DriftInput *in, bool neg_is_x, Term *t, Cloud *c, Error *err) {
    TRY(term_open(t, c->rows, in->n, err));
    t->radii = in->radii;
    t->n_radii = in->n_radii;
    t->kernel = in->kernel;
    const size_t neg_at = neg_is_x ? 0 : in->n, pos_at = neg_is_x ? in->n : in->n + in->m;
    for (size_t j = 0; j < in->m; j++)
        term_add(t, neg_at + j, in->w_neg, false, in->mask_negative_self ? (ptrdiff_t)j : -1);
    for (size_t j = 0; j < in->p; j++)
        term_add(t, pos_at + j, in->w_pos, true, in->mask_positive_self ? (ptrdiff_t)j : -1);
    return 0;
}

int drift_field(const DriftInput *in, int threads, float *force, float *grad, DriftResult *result, Error *err) {
    TRY(check_input(in, err));
    const bool neg_is_x = in->neg == in->x && in->m == in->n;
    const float *base[3] = {in->x, neg_is_x ? in->pos : in->neg, in->pos};
    const size_t count[3] = {in->n, neg_is_x ? in->p : in->m, in->p};
    Cloud cloud;
    TRY(cloud_open(&cloud, neg_is_x ? 2 : 3, base, count, in->d, threads, err));
    Term term;
    DriftResult local;
    int code = fill_term(in, neg_is_x, &term, &cloud, err);
    if (code == 0) {
        term_scale(&term, &cloud);
        if (in->kernel == 2) cloud_use_cosine(&cloud);
        code = term_field(&term, &cloud, force, grad, 0, 1, result ? result : &local, err);
    }
    term_close(&term);
    cloud_close(&cloud);
    return code;
}

/* ---- both terms of one feature key ---- */

static int check_feature(const FeatureSet *set, int candidates, const Selection *sel, const DriftOptions *opt,
                         Error *err) {
    TRY(check_options(opt->radii, opt->n_radii, opt->kernel, err));
    TRY(check_weight("weight of the positives", opt->w_pos, err));
    TRY(check_weight("weight of the negatives", opt->w_neg, err));
    TRY(check_weight("weight of the reference", opt->w_ref, err));
    TRY(check_weight("negative weight of the reference term", opt->w_ref_neg, err));
    TRY(check_weight("factor of the reference term", opt->lambda_ref, err));
    if (candidates < 1 || set->tokens < 1 || set->dim < 1 || !set->policy || !set->grad)
        return fail(err, DRPO_E_INTERNAL, "drift: a feature key of %d candidates, %d tokens and %d channels is empty",
                    candidates, set->tokens, set->dim);
    if (opt->lambda_ref > 0 && !set->reference)
        return fail(err, DRPO_E_INTERNAL,
                    "drift: the reference term is on but a feature key has no reference features");
    if (sel->skip || sel->n_pos + set->data_pos < 1 || sel->n_neg + set->data_neg < 1)
        return fail(err, DRPO_E_INTERNAL, "drift: called for a prompt without selected candidates");
    for (int k = 0; k < sel->n_pos + sel->n_neg; k++) {
        const int chosen = k < sel->n_pos ? sel->pos[k] : sel->neg[k - sel->n_pos];
        if (chosen < 0 || chosen >= (set->anchor_rows ? set->anchor_rows : candidates))
            return fail(err, DRPO_E_INTERNAL, "drift: selected candidate %d of %d does not exist", chosen, candidates);
    }
    return 0;
}

/* The rows of one key: samples, their references, anchors of their own, given pictures; a row's first index, or where
 * it would be. */
typedef struct Rows {
    const float *base[4];
    size_t count[4];
    int segments;
    size_t reference, anchors, data;
} Rows;

static size_t add_segment(Rows *r, const float *base, size_t count) {
    size_t first = 0;
    for (int k = 0; k < r->segments; k++) first += r->count[k];
    if (!base || !count) return first;
    r->base[r->segments] = base;
    r->count[r->segments++] = count;
    return first;
}

static Rows collect_rows(const FeatureSet *set, size_t samples, const DriftOptions *opt) {
    Rows r = {0};
    const size_t given = (size_t)(set->data_pos + set->data_neg) * (size_t)set->tokens;
    add_segment(&r, set->policy, samples);
    r.reference = add_segment(&r, opt->lambda_ref > 0 ? set->reference : NULL, samples);
    const size_t anchors = set->anchor_rows ? (size_t)set->anchor_rows * (size_t)set->tokens : samples;
    r.anchors = set->anchors ? add_segment(&r, set->anchors, anchors) : 0; /* else the samples themselves */
    r.data = add_segment(&r, set->data, given);
    return r;
}

static void add_image(Term *t, size_t first, size_t tokens, double weight, bool positive) {
    for (size_t i = 0; i < tokens; i++) term_add(t, first + i, weight, positive, -1);
}

static int open_terms(const FeatureSet *set, const Rows *rows, size_t samples, const Selection *sel,
                      const DriftOptions *opt, Term term[2], Error *err) {
    const size_t tokens = (size_t)set->tokens;
    /* Columns are the first rows: up to the last that takes part. */
    const size_t given = (size_t)(set->data_pos + set->data_neg) * tokens;
    const size_t anchors = set->anchor_rows ? (size_t)set->anchor_rows * tokens : samples;
    const size_t columns = given ? rows->data + given : set->anchors ? rows->anchors + anchors : samples;
    TRY(term_open(&term[0], columns, samples, err));
    for (int k = 0; k < sel->n_neg; k++)
        add_image(&term[0], rows->anchors + (size_t)sel->neg[k] * tokens, tokens, opt->w_neg, false);
    for (int k = 0; k < sel->n_pos; k++)
        add_image(&term[0], rows->anchors + (size_t)sel->pos[k] * tokens, tokens, opt->w_pos, true);
    for (int k = 0; k < set->data_pos + set->data_neg; k++)
        add_image(&term[0], rows->data + (size_t)k * tokens, tokens, k < set->data_pos ? opt->w_pos : opt->w_neg,
                  k < set->data_pos);
    if (opt->lambda_ref <= 0) return 0;
    TRY(term_open(&term[1], 2 * samples, samples, err));
    for (size_t i = 0; i < samples; i++) {
        term_add(&term[1], i, opt->w_ref_neg, false, (ptrdiff_t)i);
        term_add(&term[1], rows->reference + i, opt->w_ref, true, opt->mask_reference ? (ptrdiff_t)i : -1);
    }
    return 0;
}

static int run_terms(const FeatureSet *set, Cloud *cloud, const DriftOptions *opt, Term term[2], DriftResult *pref,
                     DriftResult *ref, Error *err) {
    const int terms = opt->lambda_ref > 0 ? 2 : 1;
    for (int k = 0; k < terms; k++) {
        term[k].radii = opt->radii;
        term[k].n_radii = opt->n_radii;
        term[k].kernel = opt->kernel;
        term_scale(&term[k], cloud);
    }
    if (opt->kernel == 2) cloud_use_cosine(cloud);
    TRY(term_field(&term[0], cloud, NULL, set->grad, 0, 1, pref, err));
    if (terms == 1)
        *ref = (DriftResult){0};
    else
        TRY(term_field(&term[1], cloud, NULL, set->grad, 1, opt->lambda_ref, ref, err));
    return 0;
}

int drift_feature(const FeatureSet *set, int candidates, const Selection *sel, const DriftOptions *opt, int threads,
                  DriftResult *pref, DriftResult *ref, Error *err) {
    TRY(check_feature(set, candidates, sel, opt, err));
    const size_t samples = (size_t)candidates * (size_t)set->tokens;
    const Rows rows = collect_rows(set, samples, opt);
    Cloud cloud;
    TRY(cloud_open(&cloud, rows.segments, rows.base, rows.count, (size_t)set->dim, threads, err));
    Term term[2] = {{0}, {0}};
    DriftResult local[2];
    int code = open_terms(set, &rows, samples, sel, opt, term, err);
    if (code == 0) code = run_terms(set, &cloud, opt, term, pref ? pref : &local[0], ref ? ref : &local[1], err);
    term_close(&term[0]);
    term_close(&term[1]);
    cloud_close(&cloud);
    return code;
}
