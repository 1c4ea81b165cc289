/* Adapters on the random UNets of tests/golden, and what the adapted network computes. */
#ifndef DRPO_TESTS_LORA_UNET_H
#define DRPO_TESTS_LORA_UNET_H

#include "golden.h"
#include "model/unet.h"

#define GOLDEN_DIR SOURCE_DIR "/tests/golden"
#define ATTENTION_TARGETS "to_q,to_k,to_v,to_out.0"
/* the module of tests/golden/lora with rank 2 and alpha 7; all others have rank 3 and alpha 5 */
#define SPECIAL_MODULE "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

/* Appends the UNet of tests/golden/<name>/config.json with the weights of `folder` to t. */
static inline Value append_unet(Golden *t, const char *name) {
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
static inline void register_unet(const char *name, Adapter *targets, Adapter *all) {
    Golden t;
    golden_open(&t, name, NULL, "model", GOLDEN_REF);
    t.build.registering = true;
    t.build.adapter = targets;
    t.build.all_linears = all;
    append_unet(&t, name);
    assert_ok(graph_check(t.build.g, &t.err), t.err);
    golden_close(&t);
}

static inline Adapter *known_modules(const char *name) {
    Error err = {0};
    Adapter *all = lora_new(1, 1, "", &err);
    assert_non_null(all);
    register_unet(name, NULL, all);
    return all;
}

static inline Adapter *make_adapter(const char *name, int rank, float alpha, const char *targets) {
    Error err = {0};
    Adapter *a = lora_new(rank, alpha, targets, &err);
    assert_non_null(a);
    register_unet(name, a, NULL);
    assert_ok(lora_allocate(a, &err), err);
    lora_init(a, 7);
    return a;
}

static inline void fill_b(Adapter *a) {
    for (int i = 0; i < a->n_pair; i++) {
        RngKey key = {.seed = 5, .stream = RNG_TEST, .candidate = (uint32_t)i};
        rng_uniform(key, -0.2f, 0.2f, a->values + a->pair[i].offset_b, (size_t)shape_count(a->pair[i].b.shape));
    }
}

/* The noise estimate [2,4,16,8] of unet_sd with an adapter, for the inputs of the case "lora"; the caller frees it. */
static inline float *adapted_noise(Adapter *a, const char *weights) {
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

#endif
