/* LoRA: which modules are adapted and how they start, the branch in the graph, and files of every layout there and
 * back. */
#include "engine/autodiff.h"
#include "format/json.h"
#include "golden.h"
#include "model/unet.h"

#define GOLDEN_DIR SOURCE_DIR "/tests/golden"
static const char ATTENTION[] = "to_q,to_k,to_v,to_out.0";
static const char SPECIAL[] = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

/* ---- helpers ---- */

/* Appends the UNet of tests/golden/<name>/config.json with the weights of `folder` to t. */
static Value append_unet(Golden *t, const char *name) {
    UnetConfig c;
    char path[600];
    snprintf(path, sizeof path, "%s/%s/config.json", GOLDEN_DIR, name);
    assert_ok(unet_config_read(path, &c, &t->err), t->err);
    Graph *g = t->build.g;
    Value latents = input(g, "latents", DT_F32, shape4(2, c.in_channels, 16, 8));
    Value time = input(g, "time", DT_F32, shape2(1, c.channels[0]));
    Value text = input(g, "text", DT_F32, shape3(2, 7, c.cross_attention_dim));
    Value added = c.added_text_time ? input(g, "added", DT_F32, shape2(1, c.projection_input_dim)) : NULL;
    Value noise = unet_build(&t->build, &c, latents, time, text, added);
    t->input[0] = latents, t->input[1] = time, t->input[2] = text, t->n_inputs = 3;
    return output(g, noise, "noise");
}

/* Registers the linear layers of a golden UNet in `targets` and `all`; either may be NULL. */
static void register_unet(const char *name, Adapter *targets, Adapter *all) {
    Golden t;
    golden_open(&t, name, NULL, "model", GOLDEN_REF);
    t.build.registering = true;
    t.build.adapter = targets;
    t.build.all_linears = all;
    append_unet(&t, name);
    assert_ok(graph_check(t.build.g, &t.err), t.err);
    golden_close(&t);
}

static Adapter *known_modules(const char *name) {
    Error err = {0};
    Adapter *all = lora_new(1, 1, "", &err);
    assert_non_null(all);
    register_unet(name, NULL, all);
    return all;
}

static Adapter *make_adapter(const char *name, int rank, float alpha, const char *targets) {
    Error err = {0};
    Adapter *a = lora_new(rank, alpha, targets, &err);
    assert_non_null(a);
    register_unet(name, a, NULL);
    assert_ok(lora_allocate(a, &err), err);
    lora_init(a, 7);
    return a;
}

static void fill_b(Adapter *a) {
    for (int i = 0; i < a->n_pair; i++) {
        RngKey key = {.seed = 5, .stream = RNG_TEST, .candidate = (uint32_t)i};
        rng_uniform(key, -0.2f, 0.2f, a->values + a->pair[i].offset_b, (size_t)shape_count(a->pair[i].b.shape));
    }
}

/* The noise estimate [2,4,16,8] of unet_sd with an adapter, for the inputs of the case "lora"; the caller frees it. */
static float *adapted_noise(Adapter *a, const char *weights) {
    Golden t;
    golden_open(&t, "lora", weights ? weights : GOLDEN_DIR "/unet_sd", "model", GOLDEN_REF);
    t.build.adapter = a;
    Value noise = append_unet(&t, "unet_sd");
    golden_run(&t, GOLDEN_REF);
    float *out = malloc((size_t)shape_count(noise->shape) * sizeof *out);
    assert_non_null(out);
    plan_read(t.plan, noise, out);
    golden_close(&t);
    return out;
}

enum { NOISE = 2 * 4 * 16 * 8 };

/* ---- registering and starting ---- */

static void test_targets(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 4, 8, ATTENTION);
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
    assert_string_equal(a->pair[0].module, SPECIAL);
    assert_null(lora_find(a, "down_blocks.0.attentions.0.proj_in"));
    assert_false(lora_is_target(a, "down_blocks.0.attentions.0.xto_q"));
    lora_free(a);
}

static void test_wrong_targets(void **state) {
    (void)state;
    Error err = {0};
    assert_null(lora_new(0, 1, ATTENTION, &err));
    assert_int_equal(err.code, DRPO_E_USAGE);
    error_clear(&err);
    assert_null(lora_new(4, NAN, ATTENTION, &err));
    error_clear(&err);
    Adapter *a = lora_new(4, 4, "to_q, to_x", &err);
    register_unet("unet_sd", a, NULL);
    assert_fails(lora_allocate(a, &err), DRPO_E_USAGE, "'to_x'", err);
    lora_free(a);
}

static void test_start(void **state) {
    (void)state;
    Adapter *a = make_adapter("unet_sd", 4, 4, ATTENTION), *b = make_adapter("unet_sd", 4, 4, ATTENTION);
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
    Adapter *a = make_adapter("unet_sd", 4, 4, ATTENTION);
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

/* ---- files by others ---- */

static void test_files_of_others(void **state) {
    (void)state;
    static const char *const paths[] = {
        GOLDEN_DIR "/lora/peft", GOLDEN_DIR "/lora/peft/adapter_model.safetensors", GOLDEN_DIR "/lora/diffusers",
        GOLDEN_DIR "/lora/diffusers/pytorch_lora_weights.safetensors", GOLDEN_DIR "/lora/kohya/adapter.safetensors"};
    Adapter *known = known_modules("unet_sd");
    Error err = {0};
    SafeFile *io;
    assert_ok(safetensors_open(GOLDEN_DIR "/lora/io.safetensors", &io, &err), err);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        Adapter *a;
        assert_ok(lora_read(paths[i], 1, known, &a, &err), err);
        LoraPair *special = lora_find(a, SPECIAL);
        assert_int_equal(special->rank, 2);
        assert_true(fabsf(special->scale - 3.5f) < 1e-6f);
        float *noise = adapted_noise(a, NULL);
        double error = relative_error(noise, safetensors_find(io, "output.noise")->data, NOISE);
        if (!(error < 1e-6)) fail_msg("%s: noise differs by %g", paths[i], error);
        free(noise);
        lora_free(a);
    }
    Adapter *half;
    assert_ok(lora_read(paths[0], 0.5f, known, &half, &err), err);
    assert_true(fabsf(lora_find(half, SPECIAL)->scale - 1.75f) < 1e-6f);
    lora_free(half);
    safetensors_close(io);
    lora_free(known);
}

/* ---- names ---- */

static int64_t in_of(const Adapter *known, const char *module, int64_t *out) {
    const LoraPair *p = lora_find((Adapter *)known, module);
    assert_non_null(p);
    *out = p->out;
    return p->in;
}

/* A file with one pair of rank 1 under two given keys, plus an extra tensor if `extra` is not NULL. */
static int read_keys(const Adapter *known, const char *module, const char *down, const char *up, const char *extra,
                     float value, Adapter **a, Error *err) {
    char folder[512];
    float block[512];
    int64_t out, in = in_of(known, module, &out);
    for (int i = 0; i < 512; i++) block[i] = value;
    assert_true(in <= 512 && out <= 512);
    const SafeTensor tensors[] = {{down, DT_F32, 2, {1, in}, block, (size_t)in * 4},
                                  {up ? up : "", DT_F32, 2, {out, 1}, block, (size_t)out * 4},
                                  {extra ? extra : "", DT_F32, 0, {0}, block, 4}};
    size_t n = up ? extra ? 3 : 2 : 1;
    const char *path = in_dir(fresh_dir("lora_keys", folder), "x.safetensors");
    assert_ok(safetensors_write(path, tensors, n, NULL, 0, err), *err);
    return lora_read(path, 1, known, a, err);
}

static void test_spellings(void **state) {
    (void)state;
    static const char *const sd[][3] = {
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight", "unet.mid_block.attentions.0.proj_in.lora_B.weight",
         "mid_block.attentions.0.proj_in"},
        {"unet.mid_block.attentions.0.proj_in.lora.down.weight", "unet.mid_block.attentions.0.proj_in.lora.up.weight",
         "mid_block.attentions.0.proj_in"},
        {"mid_block.attentions.0.proj_in.lora_A.default.weight", "mid_block.attentions.0.proj_in.lora_B.default.weight",
         "mid_block.attentions.0.proj_in"},
        {"unet.mid_block.attentions.0.transformer_blocks.1.attn2.processor.to_out_lora.down.weight",
         "unet.mid_block.attentions.0.transformer_blocks.1.attn2.processor.to_out_lora.up.weight",
         "mid_block.attentions.0.transformer_blocks.1.attn2.to_out.0"},
        {"lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
         "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj.lora_up.weight",
         "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj"},
        {"diffusion_model.mid_block.attentions.0.proj_in.lora_A.weight",
         "diffusion_model.mid_block.attentions.0.proj_in.lora_B.weight", "mid_block.attentions.0.proj_in"},
        {"lora_unet_time_embedding_linear_2.lora_down.weight", "lora_unet_time_embedding_linear_2.lora_up.weight",
         "time_embedding.linear_2"}};
    static const char *const sdxl[][3] = {
        {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight", "lora_unet_input_blocks_4_1_proj_in.lora_up.weight",
         "down_blocks.1.attentions.0.proj_in"},
        {"lora_unet_input_blocks_8_1_transformer_blocks_2_attn1_to_out_0.lora_down.weight",
         "lora_unet_input_blocks_8_1_transformer_blocks_2_attn1_to_out_0.lora_up.weight",
         "down_blocks.2.attentions.1.transformer_blocks.2.attn1.to_out.0"},
        {"diffusion_model.middle_block.1.proj_out.lora_A.weight",
         "diffusion_model.middle_block.1.proj_out.lora_B.weight", "mid_block.attentions.0.proj_out"},
        {"diffusion_model.output_blocks.5.1.proj_in.lora_A.weight",
         "diffusion_model.output_blocks.5.1.proj_in.lora_B.weight", "up_blocks.1.attentions.2.proj_in"},
        {"lora_unet_output_blocks_7_0_emb_layers_1.lora_down.weight",
         "lora_unet_output_blocks_7_0_emb_layers_1.lora_up.weight", "up_blocks.2.resnets.1.time_emb_proj"},
        {"lora_unet_label_emb_0_2.lora_down.weight", "lora_unet_label_emb_0_2.lora_up.weight",
         "add_embedding.linear_2"}};
    Error err = {0};
    for (int xl = 0; xl < 2; xl++) {
        Adapter *known = known_modules(xl ? "unet_sdxl" : "unet_sd");
        size_t n = xl ? sizeof sdxl / sizeof *sdxl : sizeof sd / sizeof *sd;
        for (size_t i = 0; i < n; i++) {
            const char *const *row = xl ? sdxl[i] : sd[i];
            Adapter *a;
            assert_ok(read_keys(known, row[2], row[0], row[1], NULL, 1, &a, &err), err);
            assert_int_equal(a->n_pair, 1);
            assert_string_equal(a->pair[0].module, row[2]);
            assert_true(a->pair[0].scale == 1); /* no alpha: alpha = rank */
            lora_free(a);
        }
        lora_free(known);
    }
}

static void test_wrong_keys(void **state) {
    (void)state;
    static const char down[] = "unet.mid_block.attentions.0.proj_in.lora_A.weight",
                      up[] = "unet.mid_block.attentions.0.proj_in.lora_B.weight";
    static const char module[] = "mid_block.attentions.0.proj_in";
    Adapter *known = known_modules("unet_sd"), *a;
    Error err = {0};
    assert_fails(read_keys(known, module, down, NULL, NULL, 1, &a, &err), DRPO_E_INPUT, "half of its pair", err);
    assert_fails(read_keys(known, module, down, "unet.mid_block.attentions.7.proj_in.lora_B.weight", NULL, 1, &a, &err),
                 DRPO_E_INPUT, "attentions.7", err);
    assert_fails(read_keys(known, module, down, up, "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", 1, &a, &err),
                 DRPO_E_INPUT, "text encoder", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.dora_scale", 1, &a, &err),
                 DRPO_E_INPUT, "dora_scale", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.lora.up.weight", 1, &a, &err),
                 DRPO_E_INPUT, "the same layer", err);
    assert_fails(read_keys(known, module, up, down, NULL, 1, &a, &err), DRPO_E_INPUT, "the layer needs", err);
    assert_fails(read_keys(known, module, down, up, NULL, NAN, &a, &err), DRPO_E_NUMERIC, "not finite", err);
    assert_fails(read_keys(known, module, down, up, "unet.mid_block.attentions.0.proj_in.alpha", INFINITY, &a, &err),
                 DRPO_E_INPUT, "alpha", err);
    assert_null(a);
    lora_free(known);
}

/* adapter_config.json says something that plain LoRA is not, or contradicts the tensors. */
static void test_wrong_settings(void **state) {
    (void)state;
    static const char *const wrong[][3] = {{"use_dora", "true", "use_dora"},
                                           {"bias", "\"all\"", "bias"},
                                           {"peft_type", "\"LOHA\"", "LOHA"},
                                           {"modules_to_save", "[\"conv_in\"]", "modules_to_save"},
                                           {"r", "4", "rank 4"},
                                           {"r", "\"3\"", "numbers"},
                                           {"alpha_pattern", "{\".*to_q\": 3}", "regular expression"}};
    char folder[512];
    Error err = {0};
    Adapter *known = known_modules("unet_sd"), *a;
    MappedFile tensors;
    assert_ok(file_map(GOLDEN_DIR "/lora/peft/adapter_model.safetensors", &tensors, &err), err);
    put_file(in_dir(fresh_dir("lora_settings", folder), "adapter_model.safetensors"), tensors.data, tensors.size);
    file_unmap(&tensors);
    assert_fails(lora_read(folder, 1, known, &a, &err), DRPO_E_INPUT, "adapter_config.json", err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *settings;
        assert_ok(json_load_path(GOLDEN_DIR "/lora/peft/adapter_config.json", &settings, &err), err);
        json_object_set_new(settings, wrong[i][0], json_loads(wrong[i][1], JSON_DECODE_ANY, NULL));
        assert_ok(json_save_path(in_dir(folder, "adapter_config.json"), settings, &err), err);
        json_decref(settings);
        assert_fails(lora_read(folder, 1, known, &a, &err), DRPO_E_INPUT, wrong[i][2], err);
    }
    assert_fails(lora_read(fresh_dir("lora_settings", folder), 1, known, &a, &err), DRPO_E_INPUT, "neither", err);
    lora_free(known);
}

/* use_rslora divides by the root of the rank. */
static void test_rslora(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Adapter *known = known_modules("unet_sd"), *a;
    MappedFile tensors;
    json_t *settings;
    assert_ok(file_map(GOLDEN_DIR "/lora/peft/adapter_model.safetensors", &tensors, &err), err);
    put_file(in_dir(fresh_dir("rslora", folder), "adapter_model.safetensors"), tensors.data, tensors.size);
    file_unmap(&tensors);
    assert_ok(json_load_path(GOLDEN_DIR "/lora/peft/adapter_config.json", &settings, &err), err);
    json_object_set_new(settings, "use_rslora", json_true());
    assert_ok(json_save_path(in_dir(folder, "adapter_config.json"), settings, &err), err);
    json_decref(settings);
    assert_ok(lora_read(folder, 1, known, &a, &err), err);
    assert_true(fabsf(lora_find(a, SPECIAL)->scale - 7 / sqrtf(2)) < 1e-5f);
    lora_free(a);
    lora_free(known);
}

/* ---- writing ---- */

static void test_round_trips(void **state) {
    (void)state;
    static const LoraMeta meta = {.base_model = "stabilityai/sd-turbo",
                                  .architecture = "stable-diffusion-v2/lora",
                                  .title = "test",
                                  .steps = 12,
                                  .seed = 3,
                                  .learning_rate = 1e-4f,
                                  .resolution = 512};
    char folder[512];
    Error err = {0};
    fresh_dir("lora_out", folder);
    const char *paths[] = {in_dir(folder, "new/peft"), in_dir(folder, "diffusers.safetensors"),
                           in_dir(folder, "kohya.safetensors")};
    Adapter *known = known_modules("unet_sd"), *trained = make_adapter("unet_sd", 3, 5, ATTENTION), *mixed;
    fill_b(trained);
    assert_ok(lora_read(GOLDEN_DIR "/lora/peft", 0.3f, known, &mixed, &err),
              err); /* ranks 3 and 2, odd scales, no targets */
    Adapter *sources[] = {trained, mixed};
    assert_ok(dir_make(in_dir(folder, "new"), &err), err);
    for (int s = 0; s < 2; s++) {
        for (int format = 0; format < 3; format++) {
            Adapter *again;
            assert_ok(lora_write(sources[s], (LoraFormat)format, paths[format], &meta, &err), err);
            assert_ok(lora_read(paths[format], 1, known, &again, &err), err);
            assert_int_equal(again->count, sources[s]->count);
            assert_memory_equal(again->values, sources[s]->values, again->count * sizeof(float));
            for (int i = 0; i < again->n_pair; i++) {
                assert_string_equal(again->pair[i].module, sources[s]->pair[i].module);
                assert_true(fabsf(again->pair[i].scale - sources[s]->pair[i].scale) <=
                            1e-6f * sources[s]->pair[i].scale);
            }
            lora_free(again);
        }
    }
    SafeFile *f;
    assert_ok(safetensors_open(paths[2], &f, &err), err);
    assert_string_equal(safetensors_metadata(f, "ss_base_model_version"), "sd_v2");
    assert_string_equal(safetensors_metadata(f, "ss_network_dim"), "3");
    assert_string_equal(safetensors_metadata(f, "modelspec.architecture"), "stable-diffusion-v2/lora");
    safetensors_close(f);
    lora_free(known);
    lora_free(trained);
    lora_free(mixed);
}

static void test_refuses_to_write(void **state) {
    (void)state;
    char folder[512];
    Error err = {0};
    Adapter *a = make_adapter("unet_sd", 2, 2, "to_q");
    a->values[3] = NAN;
    const char *path = in_dir(fresh_dir("lora_nan", folder), "x.safetensors");
    assert_fails(lora_write(a, LORA_KOHYA, path, NULL, &err), DRPO_E_NUMERIC, "not finite", err);
    assert_false(file_exists(path));
    lora_free(a);
}

static void test_copy(void **state) {
    (void)state;
    Error err = {0};
    Adapter *from = make_adapter("unet_sd", 3, 6, ATTENTION), *same = make_adapter("unet_sd", 3, 6, ATTENTION);
    Adapter *weaker = make_adapter("unet_sd", 3, 3, ATTENTION), *fewer = make_adapter("unet_sd", 3, 6, "to_q");
    Adapter *wider = make_adapter("unet_sd", 4, 6, ATTENTION);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_targets),
                                       cmocka_unit_test(test_wrong_targets),
                                       cmocka_unit_test(test_start),
                                       cmocka_unit_test(test_zero_b_changes_nothing),
                                       cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_every_unet_has_gradients),
                                       cmocka_unit_test(test_merge),
                                       cmocka_unit_test(test_merge_rounds),
                                       cmocka_unit_test(test_merge_refuses),
                                       cmocka_unit_test(test_files_of_others),
                                       cmocka_unit_test(test_spellings),
                                       cmocka_unit_test(test_wrong_keys),
                                       cmocka_unit_test(test_wrong_settings),
                                       cmocka_unit_test(test_rslora),
                                       cmocka_unit_test(test_round_trips),
                                       cmocka_unit_test(test_refuses_to_write),
                                       cmocka_unit_test(test_copy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
