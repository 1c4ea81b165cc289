/* The drift against golden files (float64), and against a naive implementation in drift_naive.h. */
#include <stdlib.h>

#include "format/json.h"
#include "format/safetensors.h"
#include "step/drift_naive.h"
#include "step/drift_problem.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_naive_float64),
        cmocka_unit_test(test_near_duplicates_far_from_origin),
        cmocka_unit_test(test_rows_one_rounding_step_apart),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
