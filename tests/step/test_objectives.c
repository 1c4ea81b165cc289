/* Soft objectives, terms beside the drift, and other methods: loss and gradient against PyTorch's autograd in float64
 * (tools/golden/objectives.py). */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/safetensors.h"
#include "step/drift_soft.h"
#include "step/keep.h"
#include "step/method/method.h"

static const char golden_path[] = SOURCE_DIR "/tests/golden/objectives/objectives.safetensors";

typedef struct Case {
    SafeFile *file;
    char name[64];
    FeatureSet set; /* grad starts at zero */
    int candidates;
    double y[MAX_CANDIDATES];
} Case;

static const SafeTensor *tensor(const Case *c, const char *part) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", c->name, part);
    return safetensors_find(c->file, key);
}

static const float *values(const Case *c, const char *part) {
    const SafeTensor *t = tensor(c, part);
    if (!t) fail_msg("%s has no %s", c->name, part);
    return t->data;
}

static size_t numbers(const Case *c) { return (size_t)c->candidates * (size_t)c->set.tokens * (size_t)c->set.dim; }

/* [K,C,h,w] -> [K,h*w,C], as the latents come as a feature; [K,tokens,D] stays. */
static float *as_feature(const SafeTensor *t) {
    size_t n = t->bytes / sizeof(float);
    const float *from = t->data;
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    size_t channels = t->rank == 4 ? (size_t)t->dim[1] : 1, pixels = t->rank == 4 ? (size_t)(t->dim[2] * t->dim[3]) : 1;
    for (size_t k = 0; k < n; k++) {
        size_t at = k % (channels * pixels), image = k - at;
        out[image + at % pixels * channels + at / pixels] = from[k];
    }
    return out;
}

/* False when there is no such case. */
static bool case_open(Case *c, SafeFile *file, const char *name, const char *scores) {
    *c = (Case){.file = file};
    snprintf(c->name, sizeof c->name, "%s", name);
    const SafeTensor *x = tensor(c, "x");
    if (!x) return false;
    c->candidates = (int)x->dim[0];
    c->set = (FeatureSet){.tokens = (int)(x->rank == 4 ? x->dim[2] * x->dim[3] : x->dim[1]),
                          .dim = (int)(x->rank == 4 ? x->dim[1] : x->dim[2]),
                          .policy = as_feature(x),
                          .reference = as_feature(tensor(c, "ref"))};
    c->set.grad = calloc(numbers(c), sizeof(float));
    for (int i = 0; i < c->candidates; i++) c->y[i] = values(c, scores)[i];
    return true;
}

static void case_close(Case *c) {
    free(c->set.policy);
    free(c->set.reference);
    free(c->set.grad);
}

static void compare(const Case *c, double loss, double factor) {
    double wanted_loss = values(c, "loss")[0], gap = 0, size = 0;
    float *wanted = as_feature(tensor(c, "grad"));
    for (size_t k = 0; k < numbers(c); k++) {
        double expected = factor * wanted[k];
        gap += (c->set.grad[k] - expected) * (c->set.grad[k] - expected);
        size += expected * expected;
    }
    free(wanted);
    if (!(fabs(loss - wanted_loss) <= 1e-5 * fabs(wanted_loss) + 1e-12))
        fail_msg("%s: loss %.9g, not %.9g", c->name, loss, wanted_loss);
    if (!(sqrt(gap) <= 1e-5 * sqrt(size))) fail_msg("%s: gradient differs by %g of %g", c->name, sqrt(gap), sqrt(size));
}

static SafeFile *open_golden(void) {
    Error err = {0};
    SafeFile *file;
    assert_ok(safetensors_open(golden_path, &file, &err), err);
    return file;
}

static void soft_objectives(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    char name[32];
    int n = 0;
    for (;; n++) {
        snprintf(name, sizeof name, "soft.%d", n);
        if (!case_open(&c, file, name, "y")) break;
        const float *o = values(&c, "options"); /* objective, kernel, alpha, clip, fraction, force, w_pos, w_neg */
        SoftOptions soft = {(Objective)o[0], o[2], o[3], o[4], o[5], 0.5f};
        DriftOptions drift = {
            .kernel = (int)o[1], .radii = {0.05f, 0.3f, 1}, .n_radii = 3, .w_pos = o[6], .w_neg = o[7]};
        for (int threads = 1; threads <= 2; threads++) {
            DriftResult result = {0};
            Error err = {0};
            assert_ok(drift_soft(&c.set, c.candidates, c.y, &soft, &drift, threads, &result, &err), err);
            compare(&c, result.loss, 0.5);
        }
        case_close(&c);
    }
    assert_int_equal(n, 23);
    safetensors_close(file);
}

/* A prompt that nobody wins: the sign of the advantage splits nothing, the others fall back to equal weights. */
static void equal_scores_give_finite_gradients(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    assert_true(case_open(&c, file, "soft.0", "y"));
    memset(c.y, 0, sizeof c.y);
    DriftOptions drift = {.radii = {0.05f}, .n_radii = 1, .w_pos = 3000, .w_neg = 3000};
    for (int o = OBJECTIVE_AWR; o <= OBJECTIVE_AWR_ADVSIGN; o++) {
        SoftOptions soft = {(Objective)o, 1, 20, 0.5f, 1, 1};
        DriftResult result;
        Error err = {0};
        assert_ok(drift_soft(&c.set, c.candidates, c.y, &soft, &drift, 1, &result, &err), err);
        assert_true(isfinite(result.loss) && fabs(result.loss - 1) < 1e-6); /* one radius: unit force */
        for (size_t k = 0; k < numbers(&c); k++) assert_true(isfinite(c.set.grad[k]));
    }
    case_close(&c);
    safetensors_close(file);
}

static void terms_beside_the_drift(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    assert_true(case_open(&c, file, "keep.l2", "y"));
    compare(&c, keep_feature_l2(&c.set, c.candidates, 0.7f), 0.7f);
    case_close(&c);
    assert_true(case_open(&c, file, "keep.diversity", "y"));
    double lack = keep_diversity(&c.set, c.candidates, 0.7f, 0.8f);
    assert_true(lack > 0.01);
    compare(&c, lack, 0.7f);
    case_close(&c);
    assert_true(case_open(&c, file, "keep.diverse", "y"));
    assert_true(keep_diversity(&c.set, c.candidates, 0.7f, 0.8f) == 0);
    compare(&c, 0, 0.7f);
    case_close(&c);
    assert_true(case_open(&c, file, "keep.anchor", "y"));
    KeepOptions keep = {.anchor = 0.7f, .anchor_alpha = 0.9f, .anchor_clip = 1, .anchor_min = 0.1f};
    compare(&c, keep_anchor(&c.set, c.candidates, c.y, &keep), 0.7f);
    case_close(&c);
    safetensors_close(file);
}

/* ---- other methods ---- */

typedef struct Prompted {
    MethodInput in;
    Selection selection;
} Prompted;

/* A prompt's candidates as the golden case says, the best and worst of them selected. */
static Prompted prompted(Case *c, const MethodOptions *o, int positives, int negatives, float l2) {
    Prompted out = {.in = {.options = o,
                           .count = c->candidates,
                           .width = numbers(c) / (size_t)c->candidates,
                           .noise = values(c, "z"),
                           .score = c->y,
                           .latents = &c->set,
                           .anchor_l2 = l2}};
    int order[MAX_CANDIDATES];
    for (int i = 0; i < c->candidates; i++) {
        int at = i;
        for (; at > 0 && c->y[order[at - 1]] < c->y[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    out.selection.n_pos = positives;
    out.selection.n_neg = negatives;
    memcpy(out.selection.pos, order, (size_t)positives * sizeof *order);
    memcpy(out.selection.neg, order + c->candidates - negatives, (size_t)negatives * sizeof *order);
    return out;
}

static double run_method(Prompted *p) {
    double loss = 0;
    bool anchored;
    Error err = {0};
    p->in.selection = &p->selection;
    assert_ok(method_gradient(&p->in, &loss, &anchored, &err), err);
    assert_int_equal(anchored, p->in.options->kind == METHOD_GRPO);
    return loss;
}

static void dpo(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    assert_true(case_open(&c, file, "method.dpo", "scores"));
    MethodOptions o = {.kind = METHOD_DPO, .dpo_beta = 4};
    Prompted p = prompted(&c, &o, 2, 3, 0);
    compare(&c, run_method(&p), 1);
    case_close(&c);
    safetensors_close(file);
}

static void pso_case(const char *name, float std, float clip) {
    SafeFile *file = open_golden();
    Case c;
    assert_true(case_open(&c, file, name, "scores"));
    MethodOptions o = {.kind = METHOD_PSO, .pso_beta = 5, .pso_std = std, .pso_clip = clip};
    Prompted p = prompted(&c, &o, 1, 1, 0);
    float *shown = malloc(numbers(&c) * sizeof(float));
    assert_non_null(shown);
    memcpy(shown, values(&c, "x"), numbers(&c) * sizeof(float));
    method_act(&o, p.in.noise, shown, p.in.count, p.in.width);
    for (size_t k = 0; k < numbers(&c); k++) assert_true(fabsf(shown[k] - values(&c, "action")[k]) < 1e-5f);
    compare(&c, run_method(&p), 1);
    free(shown);
    case_close(&c);
    safetensors_close(file);
}

static void pso(void **state) {
    (void)state;
    pso_case("method.pso", 0.2f, 0.1f);
    pso_case("method.pso-open", 0.3f, 0.8f);
}

static void grpo(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    MethodOptions o = {.kind = METHOD_GRPO,
                       .grpo_anchors = 6,
                       .grpo_power = 0.8f,
                       .grpo_scale = 1,
                       .grpo_advantage_clip = 5,
                       .grpo_temperature = 0.7f};
    assert_true(case_open(&c, file, "method.grpo", "scores"));
    Prompted p = prompted(&c, &o, 1, 1, 0.3f);
    compare(&c, run_method(&p), 1);

    /* fewer anchors: the drawn ones get their gradient, the others none */
    p.in.draw = (RngKey){.seed = 3, .stream = RNG_METHOD, .step = 2};
    o.grpo_anchors = 2;
    float *all = as_feature(tensor(&c, "grad"));
    run_method(&p);
    int moved = 0;
    size_t width = p.in.width;
    for (int i = 0; i < c.candidates; i++) {
        const float *row = c.set.grad + (size_t)i * width;
        bool anchor = row[0] != 0;
        moved += anchor;
        for (size_t k = 0; k < width; k++)
            assert_true(fabsf(row[k] - (anchor ? 3 * all[(size_t)i * width + k] : 0)) < 1e-6f);
    }
    assert_int_equal(moved, 2);
    free(all);
    case_close(&c);

    assert_true(case_open(&c, file, "method.grpo-clipped", "scores"));
    p = prompted(&c, &o, 1, 1, 0.3f);
    o.grpo_anchors = 6, o.grpo_power = 2, o.grpo_scale = 1.5f, o.grpo_advantage_clip = 1;
    compare(&c, run_method(&p), 1);
    case_close(&c);
    safetensors_close(file);
}

static void refused(void **state) {
    (void)state;
    SafeFile *file = open_golden();
    Case c;
    Error err = {0};
    double loss;
    bool anchored;
    assert_true(case_open(&c, file, "method.pso", "scores"));
    MethodOptions o = {.kind = METHOD_PSO, .pso_std = 1, .pso_beta = 1, .pso_clip = 0.1f, .grpo_anchors = 7};
    Prompted p = prompted(&c, &o, 1, 1, 0);
    p.in.count = 5;
    assert_fails(method_gradient(&p.in, &loss, &anchored, &err), DRPO_E_USAGE, "even", err);
    p.in.count = 6, o.kind = METHOD_GRPO;
    assert_fails(method_gradient(&p.in, &loss, &anchored, &err), DRPO_E_USAGE, "anchors", err);
    case_close(&c);
    safetensors_close(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_objectives),
        cmocka_unit_test(equal_scores_give_finite_gradients),
        cmocka_unit_test(terms_beside_the_drift),
        cmocka_unit_test(dpo),
        cmocka_unit_test(pso),
        cmocka_unit_test(grpo),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
