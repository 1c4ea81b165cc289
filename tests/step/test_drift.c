/* The drift against golden files (float64), against a naive implementation below, and against its own properties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "step/drift.h"
#include "step/drift_internal.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

static const float RADII[3] = {0.02f, 0.05f, 0.2f};

static float *random_rows(uint32_t stream, size_t n, size_t d, double centre, double spread) {
    float *x = malloc(n * d * sizeof *x);
    rng_normal((RngKey){7, RNG_TEST, stream, 0, 0}, x, n * d);
    for (size_t i = 0; i < n * d; i++) x[i] = (float)(centre + spread * x[i]);
    return x;
}

static double relative(const float *a, const double *b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference) / fmax(sqrt(norm), 1e-12);
}

/* ---- an independent float64 implementation, straight from the definition ---- */

typedef struct Naive {
    double *force, *grad, loss, scale, s;
} Naive;

typedef struct Targets {
    size_t count;
    const float **row;
    double *weight, *distance, *cosine; /* distance, cosine [n, count] */
} Targets;

static Targets naive_targets(const DriftInput *in) {
    Targets t = {.count = in->n + in->m + in->p};
    t.row = malloc(t.count * sizeof *t.row);
    t.weight = malloc(t.count * sizeof(double));
    t.distance = malloc(in->n * t.count * sizeof(double));
    t.cosine = malloc(in->n * t.count * sizeof(double));
    for (size_t j = 0; j < t.count; j++) {
        const bool is_x = j < in->n, is_neg = !is_x && j < in->n + in->m;
        t.row[j] = is_x     ? in->x + j * in->d
                   : is_neg ? in->neg + (j - in->n) * in->d
                            : in->pos + (j - in->n - in->m) * in->d;
        t.weight[j] = is_x ? 1 : is_neg ? in->w_neg : in->w_pos;
    }
    for (size_t i = 0; i < in->n; i++)
        for (size_t j = 0; j < t.count; j++) {
            double square = 0, product = 0, a = 0, b = 0;
            for (size_t k = 0; k < in->d; k++) {
                const double x = in->x[i * in->d + k], y = t.row[j][k];
                square += (x - y) * (x - y);
                product += x * y;
                a += x * x;
                b += y * y;
            }
            t.distance[i * t.count + j] = sqrt(fmax(square, 1e-8));
            t.cosine[i * t.count + j] = product / (fmax(sqrt(a), 1e-8) * fmax(sqrt(b), 1e-8));
        }
    return t;
}

static void free_targets(Targets *t) {
    free(t->row);
    free(t->weight);
    free(t->distance);
    free(t->cosine);
}

static double naive_logit(const DriftInput *in, const Targets *t, double scale, double r, size_t i, size_t j) {
    const double x = t->distance[i * t->count + j] / scale / r;
    const double value = in->kernel == 2 ? t->cosine[i * t->count + j] / r : in->kernel == 1 ? -0.5 * x * x : -x;
    const bool own =
        j == i || (in->mask_negative_self && j == in->n + i) || (in->mask_positive_self && j == in->n + in->m + i);
    return own ? value - 100 / r : value;
}

/* a [n,count] = sqrt(max(row softmax * column softmax, 1e-6)) * weight */
static void naive_affinity(const DriftInput *in, const Targets *t, double scale, double r, double *a) {
    const size_t n = in->n, count = t->count;
    double *row = calloc(n, sizeof(double)), *column = calloc(count, sizeof(double));
    double *row_max = malloc(n * sizeof(double)), *column_max = malloc(count * sizeof(double));
    for (size_t i = 0; i < n; i++) row_max[i] = -INFINITY;
    for (size_t j = 0; j < count; j++) column_max[j] = -INFINITY;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            const double l = a[i * count + j] = naive_logit(in, t, scale, r, i, j);
            row_max[i] = fmax(row_max[i], l);
            column_max[j] = fmax(column_max[j], l);
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            row[i] += exp(a[i * count + j] - row_max[i]);
            column[j] += exp(a[i * count + j] - column_max[j]);
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < count; j++) {
            const double l = a[i * count + j];
            const double both = exp(l - row_max[i]) / row[i] * (exp(l - column_max[j]) / column[j]);
            a[i * count + j] = sqrt(fmax(both, 1e-6)) * t->weight[j];
        }
    free(row);
    free(column);
    free(row_max);
    free(column_max);
}

static void naive_add_radius(const DriftInput *in, const Targets *t, double s, const double *a, double *force) {
    double *f = calloc(in->n * in->d, sizeof(double)), power = 0;
    for (size_t i = 0; i < in->n; i++) {
        double attract = 0, repel = 0;
        for (size_t j = 0; j < t->count; j++) *(j < in->n + in->m ? &repel : &attract) += a[i * t->count + j];
        for (size_t j = 0; j < t->count; j++) {
            const double c = j < in->n + in->m ? -a[i * t->count + j] * attract : a[i * t->count + j] * repel;
            for (size_t k = 0; k < in->d; k++)
                f[i * in->d + k] += c * ((double)t->row[j][k] - in->x[i * in->d + k]) / s;
        }
    }
    for (size_t k = 0; k < in->n * in->d; k++) power += f[k] * f[k];
    const double rms = sqrt(fmax(power / (double)(in->n * in->d), 1e-8));
    for (size_t k = 0; k < in->n * in->d; k++) force[k] += f[k] / rms;
    free(f);
}

static Naive naive_drift(const DriftInput *in) {
    Targets t = naive_targets(in);
    Naive out = {calloc(in->n * in->d, sizeof(double)), malloc(in->n * in->d * sizeof(double)), 0, 0, 0};
    double weighted = 0, weights = 0;
    for (size_t j = 0; j < t.count; j++) {
        weights += t.weight[j] / (double)t.count;
        for (size_t i = 0; i < in->n; i++)
            weighted += t.distance[i * t.count + j] * t.weight[j] / (double)(in->n * t.count);
    }
    out.scale = fmax(weighted / fmax(weights, 1e-8), 1e-3);
    out.s = fmax(out.scale / sqrt((double)in->d), 1e-3);
    double *a = malloc(in->n * t.count * sizeof(double));
    for (int r = 0; r < in->n_radii; r++) {
        naive_affinity(in, &t, out.scale, in->radii[r], a);
        naive_add_radius(in, &t, out.s, a, out.force);
    }
    for (size_t k = 0; k < in->n * in->d; k++) {
        out.loss += out.force[k] * out.force[k] / (double)(in->n * in->d);
        out.grad[k] = -2 * out.force[k] / ((double)(in->n * in->d) * out.s);
    }
    free(a);
    free_targets(&t);
    return out;
}

static void free_naive(Naive *n) {
    free(n->force);
    free(n->grad);
}

/* Runs both and compares within `tolerance`. */
static void check_against_naive(const DriftInput *in, double tolerance) {
    float *force = malloc(in->n * in->d * sizeof *force), *grad = malloc(in->n * in->d * sizeof *grad);
    Error err = {0};
    DriftResult result;
    assert_int_equal(drift_field(in, 2, force, grad, &result, &err), 0);
    Naive want = naive_drift(in);
    const double off = relative(force, want.force, in->n * in->d), off_grad = relative(grad, want.grad, in->n * in->d);
    if (off > tolerance || off_grad > tolerance)
        fail_msg("n %zu p %zu m %zu d %zu kernel %d: force off by %g, gradient by %g", in->n, in->p, in->m, in->d,
                 in->kernel, off, off_grad);
    assert_true(fabs(result.loss - want.loss) <= 1e-5 * fmax(want.loss, 1));
    assert_true(fabs(result.scale - want.scale) <= 1e-6 * want.scale);
    assert_true(fabs(result.scale_per_dim - want.s) <= 1e-6 * want.s);
    free_naive(&want);
    free(force);
    free(grad);
}

static void test_agrees_with_naive_float64(void **state) {
    (void)state;
    static const size_t size[][4] = {{1, 1, 1, 1},      {2, 1, 1, 3},      {5, 2, 3, 7},
                                     {9, 9, 9, 33},     {24, 8, 8, 64},    {130, 5, 7, 4},
                                     {67, 67, 67, 130}, {40, 40, 40, 257}, {3, 2, 2, 5000}};
    for (size_t k = 0; k < sizeof size / sizeof *size; k++)
        for (int kernel = 0; kernel < 3; kernel++)
            for (int masks = 0; masks < 4; masks++) {
                const size_t n = size[k][0], d = size[k][3];
                const size_t m = masks & 1 ? n : size[k][2], p = masks & 2 ? n : size[k][1];
                float *x = random_rows(1, n, d, 0.5, 2), *neg = random_rows(2, m, d, 0.4, 2),
                      *pos = random_rows(3, p, d, 0.6, 2);
                DriftInput in = {
                    x, pos, neg, n, p, m, d, 3000, 1500, RADII, 3, kernel, (masks & 1) != 0, (masks & 2) != 0};
                check_against_naive(&in, 3e-6);
                if (masks & 1) { /* the samples themselves as negatives */
                    in.neg = x;
                    check_against_naive(&in, 3e-6);
                }
                free(x);
                free(neg);
                free(pos);
            }
}

/* Duplicates, pairs 1e-3 apart, everything far from the origin: where float32 Gram matrices lose the distances. */
static void test_near_duplicates_far_from_origin(void **state) {
    (void)state;
    const size_t n = 20, d = 48;
    float *x = random_rows(4, n, d, 100, 1), *pos = random_rows(5, n, d, 100, 1), *neg = random_rows(6, n, d, 100, 1);
    memcpy(pos, x, 5 * d * sizeof *x); /* anchors that are samples */
    memcpy(neg + 3 * d, x + 10 * d, 5 * d * sizeof *x);
    for (size_t k = 0; k < d; k++) x[d + k] = x[k] + 1e-3f; /* a near duplicate */
    for (size_t k = 0; k < d; k++) x[2 * d + k] = x[k];     /* an exact one */
    for (int kernel = 0; kernel < 2; kernel++) {
        const DriftInput in = {x, pos, neg, n, n, n, d, 3000, 3000, RADII, 3, kernel, true, kernel == 1};
        check_against_naive(&in, 3e-6);
    }
    free(x);
    free(pos);
    free(neg);
}

/* At a radius of 1e-7 rows one rounding step apart must keep their distance: products of rows of norm 7000 do not know
 * it. */
static void test_rows_one_rounding_step_apart(void **state) {
    (void)state;
    const size_t n = 12, d = 48;
    const float radii[] = {1e-7f};
    float *x = random_rows(7, n, d, 0, 1000), *pos = random_rows(8, n, d, 0, 1000),
          *neg = random_rows(9, n, d, 0, 1000);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d; k++) {
            pos[i * d + k] = nextafterf(x[i * d + k], 1e9f);
            neg[i * d + k] = k % 3 ? x[i * d + k] : nextafterf(x[i * d + k], -1e9f);
        }
    const DriftInput in = {x, pos, neg, n, n, n, d, 3000, 3000, radii, 1, 0, false, false};
    check_against_naive(&in, 1e-4); /* pull and push nearly cancel in float32 sums */
    free(x);
    free(pos);
    free(neg);
}

/* ---- golden files ---- */

static const SafeTensor *golden_tensor(const SafeFile *f, const char *name, const char *part) {
    char key[64];
    snprintf(key, sizeof key, "%s.%s", name, part);
    const SafeTensor *t = safetensors_find(f, key);
    if (!t) fail_msg("%s: no tensor %s", safetensors_path(f), key);
    return t;
}

static double golden_difference(const float *got, const SafeTensor *want, size_t n) {
    double *wide = malloc(n * sizeof(double));
    for (size_t i = 0; i < n; i++) wide[i] = ((const float *)want->data)[i];
    const double off = relative(got, wide, n);
    free(wide);
    return off;
}

static void check_golden_case(const SafeFile *f, const char *name, const char *about) {
    Error err = {0};
    json_t *j = NULL;
    assert_int_equal(json_load_text(name, about, strlen(about), &j, &err), 0);
    float radii[MAX_RADII];
    int n_radii = 0;
    size_t index;
    json_t *value;
    json_array_foreach(json_object_get(j, "radii"), index, value) radii[n_radii++] = (float)json_number_value(value);
    const char *kernel = json_string_value(json_object_get(j, "kernel"));
    const SafeTensor *x = golden_tensor(f, name, "x"), *pos = golden_tensor(f, name, "pos"),
                     *neg = golden_tensor(f, name, "neg");
    const DriftInput in = {.x = x->data,
                           .pos = pos->data,
                           .neg = neg->data,
                           .n = (size_t)x->dim[0],
                           .p = (size_t)pos->dim[0],
                           .m = (size_t)neg->dim[0],
                           .d = (size_t)x->dim[1],
                           .w_pos = (float)json_number_value(json_object_get(j, "w_pos")),
                           .w_neg = (float)json_number_value(json_object_get(j, "w_neg")),
                           .radii = radii,
                           .n_radii = n_radii,
                           .kernel = !strcmp(kernel, "cosine") ? 2
                                     : !strcmp(kernel, "rbf")  ? 1
                                                               : 0,
                           .mask_negative_self = json_is_true(json_object_get(j, "mask"))};
    const size_t count = in.n * in.d;
    float *force = malloc(count * sizeof *force), *grad = malloc(count * sizeof *grad);
    DriftResult result;
    assert_int_equal(drift_field(&in, 0, force, grad, &result, &err), 0);
    const double off = golden_difference(force, golden_tensor(f, name, "force"), count);
    const double off_grad = golden_difference(grad, golden_tensor(f, name, "grad"), count);
    if (off > 2e-6 || off_grad > 2e-6)
        fail_msg("%s %s (%s): force off by %g, gradient by %g", safetensors_path(f), name,
                 json_string_value(json_object_get(j, "note")), off, off_grad);
    const double loss = *(const float *)golden_tensor(f, name, "loss")->data;
    assert_true(fabs(result.loss - loss) <= 1e-5 * fmax(loss, 1));
    json_decref(j);
    free(force);
    free(grad);
}

static void test_golden(void **state) {
    (void)state;
    static const char *const files[] = {"kernels", "sizes", "degenerate"};
    int cases = 0;
    for (int k = 0; k < 3; k++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/drift/%s.safetensors", SOURCE_DIR, files[k]);
        SafeFile *f = NULL;
        Error err = {0};
        if (safetensors_open(path, &f, &err) < 0) fail_msg("%s", err.text);
        for (size_t i = 0; i < safetensors_metadata_count(f); i++) {
            const TextPair p = safetensors_metadata_at(f, i);
            if (strncmp(p.key, "case", 4) != 0) continue;
            check_golden_case(f, p.key, p.value);
            cases++;
        }
        safetensors_close(f);
    }
    assert_true(cases >= 30);
}

/* ---- properties ---- */

typedef struct Problem {
    float *x, *pos, *neg, *force, *grad;
    DriftInput in;
    DriftResult result;
} Problem;

static Problem problem(size_t n, size_t p, size_t m, size_t d) {
    Problem q = {
        .x = random_rows(11, n, d, 0.2, 1), .pos = random_rows(12, p, d, 0, 1), .neg = random_rows(13, m, d, 0, 1)};
    q.force = malloc(n * d * sizeof(float));
    q.grad = malloc(n * d * sizeof(float));
    q.in = (DriftInput){q.x, q.pos, q.neg, n, p, m, d, 3000, 3000, RADII, 3, 0, false, false};
    return q;
}

static void solve(Problem *q) {
    Error err = {0};
    if (drift_field(&q->in, 2, q->force, q->grad, &q->result, &err) < 0) fail_msg("%s", err.text);
}

static void free_problem(Problem *q) {
    free(q->x);
    free(q->pos);
    free(q->neg);
    free(q->force);
    free(q->grad);
}

static double max_difference(const float *a, const float *b, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

/* mean((x/s - goal)^2) with goal = x0/s + F fixed: its numerical derivative at x0 is the closed form. */
static void test_gradient_is_that_of_the_regression(void **state) {
    (void)state;
    Problem q = problem(6, 3, 2, 5);
    solve(&q);
    const double s = q.result.scale_per_dim, count = 6 * 5, h = 1e-3;
    for (size_t k = 0; k < 30; k++) {
        double value[2];
        for (int side = 0; side < 2; side++) {
            double loss = 0;
            for (size_t i = 0; i < 30; i++) {
                const double x = q.x[i] + (i == k ? (side ? h : -h) : 0);
                const double off = x / s - (q.x[i] / s + q.force[i]);
                loss += off * off / count;
            }
            value[side] = loss;
        }
        assert_true(fabs((value[1] - value[0]) / (2 * h) - q.grad[k]) < 1e-5);
    }
    free_problem(&q);
}

static void test_one_radius_has_loss_one(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        Problem q = problem(12, 4, 4, 9);
        q.in.n_radii = 1;
        q.in.kernel = kernel;
        solve(&q);
        assert_true(fabs(q.result.loss - 1) < 1e-6);
        free_problem(&q);
    }
}

static void test_permuted_samples_permute_the_force(void **state) {
    (void)state;
    Problem q = problem(150, 4, 5, 6), turned = problem(150, 4, 5, 6);
    for (size_t i = 0; i < 150; i++) memcpy(turned.x + i * 6, q.x + (i * 7 % 150) * 6, 6 * sizeof(float));
    solve(&q);
    solve(&turned);
    for (size_t i = 0; i < 150; i++)
        assert_true(max_difference(turned.force + i * 6, q.force + (i * 7 % 150) * 6, 6) < 2e-5);
    free_problem(&q);
    free_problem(&turned);
}

static void test_translation_and_scale_do_not_change_the_force(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 2; kernel++) {
        Problem q = problem(10, 4, 3, 8), moved = problem(10, 4, 3, 8);
        q.in.kernel = moved.in.kernel = kernel;
        float *all[] = {moved.x, moved.pos, moved.neg};
        const size_t rows[] = {10, 4, 3};
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < rows[k] * 8; i++) all[k][i] = 8 * (all[k][i] + 4);
        solve(&q);
        solve(&moved);
        assert_true(max_difference(q.force, moved.force, 80) < 2e-5);
        for (size_t i = 0; i < 80; i++)
            assert_true(fabs(q.grad[i] / 8 - moved.grad[i]) < 1e-6); /* the gradient goes as 1/s */
        free_problem(&q);
        free_problem(&moved);
    }
}

static void test_identical_points_stay(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        Problem q = problem(7, 3, 2, 11);
        q.in.kernel = kernel;
        float *all[] = {q.x, q.pos, q.neg};
        const size_t rows[] = {7, 3, 2};
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < rows[k] * 11; i++) all[k][i] = 1.2345678f * (float)(i % 11);
        solve(&q);
        for (size_t i = 0; i < 77; i++) assert_true(q.force[i] == 0 && q.grad[i] == 0);
        assert_true(q.result.loss == 0);
        if (kernel == 0) assert_true(fabs(q.result.scale - 1e-3) < 1e-9);
        free_problem(&q);
    }
}

static void test_dipole_pulls_to_the_positive(void **state) {
    (void)state;
    float x = 0, pos = 1, neg = -1, force, grad;
    for (int kernel = 0; kernel < 2; kernel++) {
        const DriftInput in = {&x, &pos, &neg, 1, 1, 1, 1, 10, 10, RADII, 3, kernel, false, false};
        assert_int_equal(drift_field(&in, 1, &force, &grad, NULL, NULL), 0);
        assert_true(force > 0 && grad < 0);
        const DriftInput turned = {&x, &neg, &pos, 1, 1, 1, 1, 10, 10, RADII, 3, kernel, false, false};
        assert_int_equal(drift_field(&turned, 1, &force, &grad, NULL, NULL), 0);
        assert_true(force < 0 && grad > 0);
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    Problem q = problem(300, 100, 90, 300), other = problem(300, 100, 90, 300);
    Error err = {0};
    assert_int_equal(drift_field(&q.in, 1, q.force, q.grad, &q.result, &err), 0);
    for (int threads = 2; threads < 5; threads++) {
        assert_int_equal(drift_field(&other.in, threads, other.force, other.grad, &other.result, &err), 0);
        assert_memory_equal(q.force, other.force, 300 * 300 * sizeof(float));
        assert_memory_equal(q.grad, other.grad, 300 * 300 * sizeof(float));
        assert_memory_equal(&q.result, &other.result, sizeof q.result);
    }
    free_problem(&q);
    free_problem(&other);
}

/* ---- inner parts ---- */

static void test_kernels_agree(void **state) {
    (void)state;
    const size_t rows = 16, columns = 12, depth = 40, count = 300, width = 64;
    double *a = calloc(rows * DRIFT_DEPTH, sizeof *a), *b = calloc(columns * DRIFT_DEPTH, sizeof *b);
    float *c = random_rows(21, rows, count, 0, 1), *points = random_rows(22, width, count, 0, 1);
    for (size_t i = 0; i < rows * DRIFT_DEPTH; i++) a[i] = sin((double)i);
    for (size_t i = 0; i < columns * DRIFT_DEPTH; i++) b[i] = cos((double)i);
    for (int level = 0; level <= DRIFT_KERNELS_BEST; level++) {
        double *dots = calloc(rows * DRIFT_COLUMNS, sizeof *dots);
        float *mix = calloc(rows * DRIFT_WIDTH, sizeof *mix);
        drift_kernels(level)->dots(a, b, rows, columns, depth, dots);
        drift_kernels(level)->mix(c, count, rows, points, count, width, mix);
        for (size_t i = 0; i < rows; i++) {
            for (size_t j = 0; j < columns; j++) {
                double want = 0;
                for (size_t k = 0; k < depth; k++) want += a[i * DRIFT_DEPTH + k] * b[j * DRIFT_DEPTH + k];
                assert_true(fabs(want - dots[i * DRIFT_COLUMNS + j]) < 1e-12);
            }
            for (size_t k = 0; k < width; k++) {
                double want = 0;
                for (size_t j = 0; j < count; j++)
                    want += (double)c[i * count + j] *
                            points[(k / DRIFT_PANEL * count + j) * DRIFT_PANEL + k % DRIFT_PANEL];
                assert_true(fabs(want - mix[i * DRIFT_WIDTH + k]) < 1e-4);
            }
        }
        free(dots);
        free(mix);
    }
    free(a);
    free(b);
    free(c);
    free(points);
}

/* Sets too large for the cache are measured again in every pass; the field must not notice. */
static void test_streaming_equals_cached(void **state) {
    (void)state;
    Problem q = problem(300, 20, 30, 20);
    for (int kernel = 0; kernel < 3; kernel += 2) {
        float *force[2];
        for (int streamed = 0; streamed < 2; streamed++) {
            Error err = {0};
            Cloud cloud;
            Term term;
            DriftResult result;
            const float *base[] = {q.x, q.neg, q.pos};
            const size_t count[] = {300, 30, 20};
            assert_int_equal(cloud_open(&cloud, 3, base, count, 20, 2, &err), 0);
            if (streamed) {
                free(cloud.cache);
                cloud.cache = NULL;
                cloud.block = malloc(DRIFT_ROWS * cloud.rows * sizeof(double));
            }
            assert_int_equal(term_open(&term, cloud.rows, 300, &err), 0);
            for (size_t j = 0; j < 30; j++) term_add(&term, 300 + j, 3000, false, -1);
            for (size_t j = 0; j < 20; j++) term_add(&term, 330 + j, 3000, true, -1);
            term.radii = RADII;
            term.n_radii = 3;
            term.kernel = kernel;
            term_scale(&term, &cloud);
            if (kernel == 2) cloud_use_cosine(&cloud);
            force[streamed] = malloc(300 * 20 * sizeof(float));
            assert_int_equal(term_field(&term, &cloud, force[streamed], NULL, 0, 1, &result, &err), 0);
            term_close(&term);
            cloud_close(&cloud);
        }
        assert_memory_equal(force[0], force[1], 300 * 20 * sizeof(float));
        free(force[0]);
        free(force[1]);
    }
    free_problem(&q);
}

/* ---- both terms of a feature key ---- */

static float *take_tokens(const float *x, const int *candidate, int count, size_t block) {
    float *out = malloc((size_t)count * block * sizeof *out);
    for (int k = 0; k < count; k++)
        memcpy(out + (size_t)k * block, x + (size_t)candidate[k] * block, block * sizeof *out);
    return out;
}

static void check_feature(int kernel, float lambda, bool mask_reference) {
    enum { K = 6, TOKENS = 3, DIM = 10, N = K * TOKENS, BLOCK = TOKENS * DIM };
    float *policy = random_rows(31, N, DIM, 0, 1), *reference = random_rows(32, N, DIM, 0, 1), grad[N * DIM],
          want[2][N * DIM];
    const Selection sel = {.n_pos = 2, .n_neg = 3, .pos = {4, 1}, .neg = {0, 5, 2}};
    const DriftOptions opt = {.kernel = kernel,
                              .radii = {0.02f, 0.05f, 0.2f},
                              .n_radii = 3,
                              .w_pos = 3000,
                              .w_neg = 2000,
                              .w_ref = 3500,
                              .w_ref_neg = 5000,
                              .lambda_ref = lambda,
                              .mask_reference = mask_reference};
    FeatureSet set = {
        .tokens = TOKENS, .dim = DIM, .policy = policy, .reference = lambda > 0 ? reference : NULL, .grad = grad};
    DriftResult pref, ref, alone[2];
    Error err = {0};
    if (drift_feature(&set, K, &sel, &opt, 2, &pref, &ref, &err) < 0) fail_msg("%s", err.text);
    float *pos = take_tokens(policy, sel.pos, sel.n_pos, BLOCK), *neg = take_tokens(policy, sel.neg, sel.n_neg, BLOCK);
    const DriftInput first = {policy, pos,  neg,       N, 2 * TOKENS, 3 * TOKENS, DIM,
                              3000,   2000, opt.radii, 3, kernel,     false,      false};
    const DriftInput second = {policy, reference, policy,    N, N,      N,    DIM,
                               3500,   5000,      opt.radii, 3, kernel, true, mask_reference};
    assert_int_equal(drift_field(&first, 1, NULL, want[0], &alone[0], &err), 0);
    assert_int_equal(drift_field(&second, 1, NULL, want[1], &alone[1], &err), 0);
    double norm = 0, off = 0;
    for (size_t i = 0; i < N * DIM; i++) {
        const double both = want[0][i] + (double)lambda * want[1][i];
        norm += both * both;
        off += (grad[i] - both) * (grad[i] - both);
    }
    assert_true(sqrt(off) < 3e-6 * sqrt(norm));
    assert_true(fabs(pref.loss - alone[0].loss) < 1e-5);
    assert_true(fabs(ref.loss - (lambda > 0 ? alone[1].loss : 0)) < 1e-5);
    free(pos);
    free(neg);
    free(policy);
    free(reference);
}

static void test_feature_is_preference_plus_reference(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 3; kernel++) {
        check_feature(kernel, 0.25f, false);
        check_feature(kernel, 0.25f, true);
        check_feature(kernel, 0, false);
    }
}

/* ---- errors ---- */

static void expect_error(Problem q, int code, const char *word) {
    Error err = {0};
    assert_int_equal(drift_field(&q.in, 1, q.force, q.grad, NULL, &err), code);
    assert_non_null(strstr(err.text, word));
}

static void test_errors_name_the_cause(void **state) {
    (void)state;
    Problem q = problem(5, 3, 2, 4), bad = q;
    bad.in.p = 0;
    expect_error(bad, DRPO_E_USAGE, "positives");
    bad = q;
    bad.in.mask_negative_self = true;
    expect_error(bad, DRPO_E_USAGE, "diagonal");
    bad = q;
    bad.in.mask_positive_self = true;
    expect_error(bad, DRPO_E_USAGE, "diagonal");
    bad = q;
    bad.in.kernel = 3;
    expect_error(bad, DRPO_E_USAGE, "laplacian");
    bad = q;
    bad.in.radii = (const float[]){0.1f, 0, 0.2f};
    expect_error(bad, DRPO_E_USAGE, "radius");
    bad = q;
    bad.in.w_neg = NAN;
    expect_error(bad, DRPO_E_USAGE, "weight");
    q.pos[5] = INFINITY;
    expect_error(q, DRPO_E_NUMERIC, "anchor row");
    q.x[4] = NAN;
    q.pos[5] = 0;
    expect_error(q, DRPO_E_NUMERIC, "sample row 1");
    free_problem(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_naive_float64),
        cmocka_unit_test(test_near_duplicates_far_from_origin),
        cmocka_unit_test(test_rows_one_rounding_step_apart),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_gradient_is_that_of_the_regression),
        cmocka_unit_test(test_one_radius_has_loss_one),
        cmocka_unit_test(test_permuted_samples_permute_the_force),
        cmocka_unit_test(test_translation_and_scale_do_not_change_the_force),
        cmocka_unit_test(test_identical_points_stay),
        cmocka_unit_test(test_dipole_pulls_to_the_positive),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_streaming_equals_cached),
        cmocka_unit_test(test_feature_is_preference_plus_reference),
        cmocka_unit_test(test_errors_name_the_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
