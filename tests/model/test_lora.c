/* LoRA: which modules are adapted and how they start, the branch in the graph with its gradient, copying and merging.
 */
#include "engine/autodiff.h"
#include "lora_unet.h"

/* ---- registering and starting ---- */

static void test_targets(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 4, 8, ATTENTION_TARGETS);
    assert_int_equal(a->n_pair, 16 * 2 * 8); /* 6 + 1 + 9 transformers of 2 blocks, 2 attentions with 4 layers each */
    size_t at = 0;
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        assert_true(lora_is_target(a, p->module));
        assert_true(p->offset_a == at && p->a.data == a->values + at && p->a.trainable && p->scale == 2);
        at += (size_t)(p->rank * p->in);
        assert_true(p->offset_b == at && p->b.data == a->values + at);
        at += (size_t)(p->rank * p->out);
        assert_ptr_equal(lora_find(a, p->module), p);
    }
    assert_int_equal(a->count, at);
    assert_string_equal(a->pair[0].module, SPECIAL_MODULE);
    assert_null(lora_find(a, "down_blocks.0.attentions.0.proj_in"));
    assert_false(lora_is_target(a, "down_blocks.0.attentions.0.xto_q"));
    lora_free(a);
}

static void test_wrong_targets(void **state) {
    (void)state;
    Error err = {0};
    assert_null(lora_new(0, 1, ATTENTION_TARGETS, &err));
    assert_int_equal(err.code, DRPO_E_USAGE);
    error_clear(&err);
    assert_null(lora_new(4, NAN, ATTENTION_TARGETS, &err));
    error_clear(&err);
    Adapter *a = lora_new(4, 4, "to_q, to_x", &err);
    register_unet("unet_sd", a, NULL);
    assert_fails(lora_allocate(a, &err), DRPO_E_USAGE, "'to_x'", err);
    lora_free(a);
}

static void test_start(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 4, 4, ATTENTION_TARGETS),
            *b = make_adapter("unet_sd", 4, 4, ATTENTION_TARGETS);
    assert_memory_equal(a->values, b->values, a->count * sizeof(float));
    lora_init(b, 8);
    for (int i = 0; i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        float bound = 1 / sqrtf((float)p->in), most = 0;
        for (int64_t k = 0; k < p->rank * p->in; k++) most = fmaxf(most, fabsf(a->values[p->offset_a + (size_t)k]));
        assert_true(most <= bound && most > 0.7f * bound);
        for (int64_t k = 0; k < p->rank * p->out; k++) assert_true(a->values[p->offset_b + (size_t)k] == 0);
        assert_memory_not_equal(a->values + p->offset_a, b->values + p->offset_a, (size_t)p->in * sizeof(float));
    }
    assert_true(lora_finite(a));
    a->values[a->count - 1] = INFINITY;
    assert_false(lora_finite(a));
    lora_free(a);
    lora_free(b);
}

/* ---- the branch ---- */

static void test_zero_b_changes_nothing(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 4, 4, ATTENTION_TARGETS);
    float *with = adapted_noise(a, NULL), *without = adapted_noise(NULL, NULL);
    assert_memory_equal(with, without, NOISE * sizeof(float));
    fill_b(a);
    float *trained = adapted_noise(a, NULL);
    assert_true(relative_error(trained, without, NOISE) > 1e-2);
    free(with);
    free(without);
    free(trained);
    lora_free(a);
}

static double dot(const float *x, const float *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

/* Every network's gradient reaches every pair: d<seed, noise>/d(A, B) along one direction, against a difference
 * quotient. */
static void test_gradient(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 3, 5, "");
    Golden t;
    enum { MOST = 4096 };
    Value leaf[MOST], grad[MOST];
    float seed_values[NOISE], *gradient = calloc(a->count, sizeof(float)),
                              *direction = malloc(a->count * sizeof(float));
    fill_b(a);
    golden_open(&t, "lora", GOLDEN_DIR "/unet_sd", "model", GOLDEN_REF);
    t.build.adapter = a;
    Value noise = append_unet(&t, "unet_sd"), seed = input(t.build.g, "seed", DT_F32, noise->shape);
    assert_true(2 * a->n_pair <= MOST);
    for (int i = 0; i < a->n_pair; i++) {
        leaf[2 * i] = param(t.build.g, &a->pair[i].a);
        leaf[2 * i + 1] = param(t.build.g, &a->pair[i].b);
    }
    assert_ok(graph_backward(t.build.g, &noise, &seed, 1, leaf, 2 * a->n_pair, grad, &t.err), t.err);
    golden_prepare(&t, GOLDEN_REF);
    rng_normal((RngKey){.seed = 1, .stream = RNG_TEST}, seed_values, NOISE);
    rng_normal((RngKey){.seed = 2, .stream = RNG_TEST}, direction, a->count);
    plan_write(t.plan, seed, seed_values);
    assert_ok(plan_run(t.plan, &t.err), t.err);
    for (int i = 0; i < a->n_pair; i++) {
        if (!grad[2 * i] || !grad[2 * i + 1]) fail_msg("%s gets no gradient", a->pair[i].module);
        plan_read(t.plan, grad[2 * i], gradient + a->pair[i].offset_a);
        plan_read(t.plan, grad[2 * i + 1], gradient + a->pair[i].offset_b);
    }
    golden_close(&t);

    const float step = 1e-4f; /* along all values at once: their norm is what counts */
    double value[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < a->count; i++) a->values[i] += (side ? -2 : 1) * step * direction[i];
        float *moved = adapted_noise(a, NULL);
        value[side] = dot(moved, seed_values, NOISE);
        free(moved);
    }
    double quotient = (value[0] - value[1]) / (2 * (double)step), slope = dot(gradient, direction, a->count);
    if (!(fabs(quotient - slope) < 5e-4 * fabs(slope))) fail_msg("slope %g, difference quotient %g", slope, quotient);
    free(gradient);
    free(direction);
    lora_free(a);
}

/* The vector-Jacobian products of all UNet layouts exist. */
static void test_every_unet_has_gradients(void **state) {
    (void)state;
    static const char *const names[] = {"unet_sd", "unet_sdxl", "unet_conv_proj", "unet_plain_mid"};
    for (int k = 0; k < 4; k++) {
        Adapter *a = make_adapter(names[k], 2, 2, "");
        Golden t;
        Value grad[2];
        golden_open(&t, names[k], NULL, "model", GOLDEN_REF);
        t.build.adapter = a;
        Value noise = append_unet(&t, names[k]), seed = input(t.build.g, "seed", DT_F32, noise->shape);
        Value leaf[2] = {param(t.build.g, &a->pair[0].a),
                         param(t.build.g, &a->pair[0].b)}; /* time_embedding.linear_1 */
        assert_ok(graph_backward(t.build.g, &noise, &seed, 1, leaf, 2, grad, &t.err), t.err);
        assert_true(grad[0] && grad[1]);
        golden_close(&t);
        lora_free(a);
    }
}

/* A copy of unet_sd's weights in another type. */
static const char *weights_as(DType type, char folder[512]) {
    Error err = {0};
    SafeFile *f;
    assert_ok(safetensors_open(GOLDEN_DIR "/unet_sd/model.safetensors", &f, &err), err);
    size_t n = safetensors_count(f);
    SafeTensor *tensor = calloc(n, sizeof *tensor);
    for (size_t i = 0; i < n; i++) {
        tensor[i] = *safetensors_at(f, i);
        if (type == DT_F16) continue;
        size_t count = tensor[i].bytes / 2;
        float *wide = malloc(count * sizeof *wide);
        dtype_to_f32(DT_F16, tensor[i].data, 0, count, wide);
        tensor[i].dtype = type;
        tensor[i].data = wide;
        tensor[i].bytes = count * sizeof *wide;
    }
    assert_ok(safetensors_write(in_dir(folder, "model.safetensors"), tensor, n, NULL, 0, &err), err);
    for (size_t i = 0; i < n && type != DT_F16; i++) free((void *)tensor[i].data);
    free(tensor);
    safetensors_close(f);
    return folder;
}

/* W + (alpha/r) B A in the file computes what the branch computes. */
static void test_merge(void **state) {
    (void)state;
    static const struct {
        DType type;
        double tolerance;
    } kinds[] = {{DT_F32, 1e-5}, {DT_F16, 5e-3}};
    Adapter *a = make_adapter("unet_sd", 3, 5, "to_q,to_v,ff.net.2,time_emb_proj,proj_out");
    fill_b(a);
    float *branch = adapted_noise(a, NULL);
    for (int i = 0; i < 2; i++) {
        char plain[512], merged[512];
        Error err = {0};
        Weights *w;
        assert_ok(weights_open(weights_as(kinds[i].type, (char *)fresh_dir("plain", plain)), "model", &w, &err), err);
        const char *file = in_dir(fresh_dir("merged", merged), "model.safetensors");
        assert_ok(lora_merge_file(w, a, file, &err), err);
        weights_free(w);
        float *noise = adapted_noise(NULL, merged);
        double error = relative_error(noise, branch, NOISE);
        if (!(error < kinds[i].tolerance)) fail_msg("merged weights differ by %g", error);
        free(noise);
    }
    free(branch);
    lora_free(a);
}

/* Merged values are the nearest that the file's type has, down to F16's subnormal numbers. */
static void test_merge_rounds(void **state) {
    (void)state;
    static const struct {
        DType type;
        double half_step, least; /* relative, absolute */
    } kinds[] = {{DT_F16, 0x1p-11, 0x1p-25}, {DT_BF16, 0x1p-8, 0}, {DT_F32, 0x1p-22, 0}, {DT_F64, 0x1p-22, 0}};
    enum { OUT = 16, IN = 33, COUNT = OUT * IN };
    static const unsigned char zeros[COUNT * 8];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char folder[512];
        Error err = {0};
        Weights *w;
        SafeTensor tensor = {"layer.weight", kinds[k].type, 2, {OUT, IN}, zeros, COUNT * dtype_bytes(kinds[k].type)};
        assert_ok(
            safetensors_write(in_dir(fresh_dir("rounds", folder), "model.safetensors"), &tensor, 1, NULL, 0, &err),
            err);
        Adapter *a = lora_new(1, 1, "layer", &err);
        assert_ok(lora_register(a, "layer", IN, OUT, &err), err);
        assert_ok(lora_allocate(a, &err), err);
        lora_init(a, 11);
        for (int o = 0; o < OUT; o++)
            a->values[a->pair[0].offset_b + (size_t)o] = ldexpf(o % 2 ? 1.7f : -1.3f, 4 - 2 * o);
        assert_ok(weights_open(folder, "model", &w, &err), err);
        assert_ok(lora_merge_file(w, a, in_dir(folder, "merged.safetensors"), &err), err);
        weights_free(w);
        SafeFile *f;
        float got[COUNT];
        assert_ok(safetensors_open(in_dir(folder, "merged.safetensors"), &f, &err), err);
        assert_int_equal(safetensors_at(f, 0)->dtype, kinds[k].type);
        dtype_to_f32(kinds[k].type, safetensors_at(f, 0)->data, 0, COUNT, got);
        safetensors_close(f);
        for (int i = 0; i < COUNT; i++) {
            double wanted = (double)a->values[i % IN] * (double)a->values[a->pair[0].offset_b + (size_t)(i / IN)];
            double error = fabs((double)got[i] - wanted),
                   allowed = fmax(1.001 * kinds[k].half_step * fabs(wanted), kinds[k].least);
            if (!(error <= allowed)) fail_msg("%s: %a became %a", dtype_name(kinds[k].type), wanted, (double)got[i]);
        }
        lora_free(a);
    }
}

static void test_merge_refuses(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Weights *w;
    Adapter *a = make_adapter("unet_sd", 1, 1, "to_q");
    assert_ok(weights_open(GOLDEN_DIR "/unet_sdxl", "model", &w, &err), err);
    assert_true(lora_merge_file(w, a, in_dir(fresh_dir("merged", folder), "m.safetensors"), &err) == DRPO_E_INPUT);
    assert_false(file_exists(in_dir(folder, "m.safetensors")));
    weights_free(w);
    error_clear(&err);
    assert_ok(weights_open(GOLDEN_DIR "/unet_sd", "model", &w, &err), err);
    fill_b(a);
    for (size_t i = 0; i < a->count; i++) a->values[i] *= 1e4f;
    assert_fails(lora_merge_file(w, a, in_dir(folder, "m.safetensors"), &err), DRPO_E_NUMERIC, "range of F16", err);
    weights_free(w);
    lora_free(a);
}

static void test_copy(void **state) {
    (void)state;
    Error err = {0};
    Adapter *from = make_adapter("unet_sd", 3, 6, ATTENTION_TARGETS),
            *same = make_adapter("unet_sd", 3, 6, ATTENTION_TARGETS);
    Adapter *weaker = make_adapter("unet_sd", 3, 3, ATTENTION_TARGETS), *fewer = make_adapter("unet_sd", 3, 6, "to_q");
    Adapter *wider = make_adapter("unet_sd", 4, 6, ATTENTION_TARGETS);
    fill_b(from);
    assert_ok(lora_copy(same, from, &err), err);
    assert_memory_equal(same->values, from->values, from->count * sizeof(float));
    assert_ok(lora_copy(weaker, from, &err), err); /* B doubles where alpha halves */
    assert_true(weaker->values[from->pair[1].offset_b] == 2 * from->values[from->pair[1].offset_b]);
    assert_true(weaker->values[from->pair[1].offset_a] == from->values[from->pair[1].offset_a]);
    assert_fails(lora_copy(fewer, from, &err), DRPO_E_INPUT, "not a target", err);
    assert_fails(lora_copy(from, fewer, &err), DRPO_E_INPUT, "lacks module", err);
    assert_fails(lora_copy(wider, from, &err), DRPO_E_INPUT, "rank 3, this run uses rank 4", err);
    Adapter *all[] = {from, same, weaker, fewer, wider};
    for (int i = 0; i < 5; i++) lora_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),       cmocka_unit_test(test_wrong_targets),
        cmocka_unit_test(test_start),         cmocka_unit_test(test_zero_b_changes_nothing),
        cmocka_unit_test(test_gradient),      cmocka_unit_test(test_every_unet_has_gradients),
        cmocka_unit_test(test_merge),         cmocka_unit_test(test_merge_rounds),
        cmocka_unit_test(test_merge_refuses), cmocka_unit_test(test_copy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
