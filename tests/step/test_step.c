/* One update as a whole: chunking, threads, memory budget, skipped prompts and bfloat16 on the embedded generator. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "gradient_gap.h"
#include "model/generator_pass.h"
#include "step/step.h"

enum { K = 6, PROMPTS = 2 };

static const Prompt prompts[PROMPTS] = {{.text = "a photo of a star"},
                                        {.text = "a photo of a red circle and a blue square"}};

/* Redness; as black a box as any. */
static int redness(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                   int width, float *scores) {
    (void)user, (void)prompt, (void)metadata;
    size_t pixels = (size_t)height * (size_t)width;
    for (int i = 0; i < count; i++) {
        double sum = 0;
        for (size_t at = 0; at < pixels; at++) {
            const uint8_t *p = rgb + ((size_t)i * pixels + at) * 3;
            sum += p[0] - p[2];
        }
        scores[i] = (float)(sum / (double)pixels);
    }
    return 0;
}

static int indifferent(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                       int width, float *scores) {
    (void)user, (void)prompt, (void)metadata, (void)rgb, (void)height, (void)width;
    for (int i = 0; i < count; i++) scores[i] = 1;
    return 0;
}

typedef struct World {
    Pipeline *pipeline;
    Backend *backend;
    Adapter *adapter;
    RewardSet rewards;
} World;

static void must(int code, const Error *err) {
    if (code < 0) fail_msg("%s", err->text);
}

static World world_open_for(int threads, drpo_reward_fn fn, void *user) {
    World w = {0};
    Error err = {0};
    RewardCallback callback = {.name = "test", .fn = fn, .user = user};
    const char *specs[] = {"callback:test"};
    must(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &w.pipeline, &err), &err);
    w.backend = backend_cpu_new(threads, &err);
    assert_non_null(w.backend);
    w.adapter = lora_new(4, 4, "to_q,to_k,to_v,to_out.0", &err);
    assert_non_null(w.adapter);
    must(pipeline_register(w.pipeline, w.adapter, NULL, &err), &err);
    must(lora_allocate(w.adapter, &err), &err);
    lora_init(w.adapter, 3);
    /* B is zero at the start, which would leave A without a gradient. */
    rng_normal((RngKey){.seed = 5, .stream = RNG_TEST}, w.adapter->values, w.adapter->count);
    for (size_t i = 0; i < w.adapter->count; i++) w.adapter->values[i] *= 0.05f;
    must(reward_set_open(specs, 1, &callback, 1, &w.rewards, &err), &err);
    return w;
}

static World world_open(int threads, drpo_reward_fn fn) { return world_open_for(threads, fn, NULL); }

static void world_close(World *w) {
    reward_set_close(&w->rewards);
    lora_free(w->adapter);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
}

static StepOptions options(int chunk, size_t budget, int threads) {
    return (StepOptions){.candidates = K,
                         .positives = 2,
                         .negatives = 2,
                         .chunk = chunk,
                         .memory_budget = budget,
                         .features = "resnet:" SOURCE_DIR "/assets/tiny-dae?keys=latent_mean_8,layer4_mean,layer4_std",
                         .drift = {.radii = {0.02f, 0.05f, 0.2f},
                                   .n_radii = 3,
                                   .w_pos = 3000,
                                   .w_neg = 3000,
                                   .w_ref = 3000,
                                   .w_ref_neg = 3000,
                                   .lambda_ref = 0.2f},
                         .threads = threads};
}

/* The gradient of one update; the caller frees it. */
static float *gradient(World *w, const StepOptions *o, StepStats *stats) {
    Error err = {0};
    Step *step = NULL;
    NoiseSource *noise = NULL;
    float *grad = calloc(w->adapter->count, sizeof(float));
    must(step_new(w->pipeline, w->backend, w->adapter, o, &step, &err), &err);
    must(noise_open(NOISE_PHILOX, NULL, 7, 4 * 16 * 16, 0, &noise, &err), &err);
    must(step_gradient(step, prompts, PROMPTS, 0, noise, &w->rewards, grad, stats, &err), &err);
    noise_close(noise);
    step_free(step);
    return grad;
}

static void chunks_give_the_same_update(void **state) {
    (void)state;
    World w = world_open(2, redness);
    StepStats stats;
    StepOptions whole = options(K, 0, 2);
    float *reference = gradient(&w, &whole, &stats);
    assert_int_equal(stats.prompts_used, PROMPTS);
    for (int chunk = 1; chunk < K; chunk += 3) { /* 1 and 4: the last chunk of 4 is padded */
        StepOptions parts = options(chunk, 0, 2);
        float *grad = gradient(&w, &parts, &stats);
        double gap = difference(reference, grad, w.adapter->count);
        if (!(gap < 1e-6)) fail_msg("chunk %d: gradients differ by %g", chunk, gap);
        free(grad);
    }
    free(reference);
    world_close(&w);
}

static void a_memory_budget_changes_nothing(void **state) {
    (void)state;
    World w = world_open(2, redness);
    StepStats stats;
    StepOptions whole = options(1, 0, 2), tight = options(1, (size_t)10 << 18, 2);
    float *reference = gradient(&w, &whole, &stats), *grad = gradient(&w, &tight, &stats);
    assert_true(difference(reference, grad, w.adapter->count) < 1e-6);
    free(reference);
    free(grad);
    world_close(&w);
}

static void threads_give_the_same_update(void **state) {
    (void)state;
    World one = world_open(1, redness), two = world_open(2, redness);
    StepStats stats;
    StepOptions o = options(K, 0, 1), p = options(K, 0, 2);
    float *a = gradient(&one, &o, &stats), *b = gradient(&two, &p, &stats);
    double gap = difference(a, b, one.adapter->count);
    if (!(gap < 1e-6)) fail_msg("1 and 2 threads differ by %g", gap);
    free(a);
    free(b);
    world_close(&one);
    world_close(&two);
}

typedef struct Taste {
    float scale[PROMPTS]; /* of a prompt's scores; 0: indifferent */
    float score[PROMPTS][K];
} Taste;

static int tasted(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                  int width, float *scores) {
    Taste *t = user;
    int at = strcmp(prompt, prompts[0].text) != 0;
    redness(NULL, prompt, metadata, rgb, count, height, width, scores);
    for (int i = 0; i < count; i++) t->score[at][i] = scores[i] *= t->scale[at];
    return 0;
}

/* Mean of the best two minus mean of the worst two. */
static double spread(const float *score) {
    double sorted[K];
    for (int i = 0; i < K; i++) {
        int at = i;
        for (; at > 0 && sorted[at - 1] > score[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = score[i];
    }
    return (sorted[K - 1] + sorted[K - 2] - sorted[0] - sorted[1]) / 2;
}

static void prompts_count_by_their_spread(void **state) {
    (void)state;
    Taste taste = {.scale = {1, 0}};
    World w = world_open_for(2, tasted, &taste);
    StepStats stats;
    StepOptions o = options(K, 0, 2);
    float *first = gradient(&w, &o, &stats);
    taste.scale[0] = 0, taste.scale[1] = 1;
    float *second = gradient(&w, &o, &stats);
    taste.scale[0] = 1, taste.scale[1] = 3;
    o.spread_weight = true;
    float *both = gradient(&w, &o, &stats);
    assert_int_equal(stats.prompts_used, PROMPTS);
    double a = spread(taste.score[0]), b = spread(taste.score[1]);
    for (size_t i = 0; i < w.adapter->count; i++) first[i] = (float)((a * first[i] + b * second[i]) / (a + b));
    double gap = difference(first, both, w.adapter->count);
    if (!(gap < 1e-5)) fail_msg("weights %g and %g: gradients differ by %g", a, b, gap);
    free(first);
    free(second);
    free(both);
    world_close(&w);
}

static void equal_scores_teach_nothing(void **state) {
    (void)state;
    World w = world_open(2, indifferent);
    StepStats stats;
    StepOptions o = options(K, 0, 2);
    float *grad = gradient(&w, &o, &stats);
    assert_int_equal(stats.prompts_skipped, PROMPTS);
    assert_int_equal(stats.prompts_used, 0);
    for (size_t i = 0; i < w.adapter->count; i++) assert_true(grad[i] == 0);
    free(grad);
    world_close(&w);
}

static Backend *rounding(bool exact) {
    Error err = {0};
    Backend *b = backend_cpu_open(&(CpuOptions){.threads = 2, .bf16 = true, .exact = exact}, &err);
    must(b ? 0 : err.code, &err);
    return b;
}

/* By turns, whatever the pictures are: a rounded picture must not change who is learned from. */
static int by_turns(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                    int width, float *scores) {
    int *next = user;
    (void)prompt, (void)metadata, (void)rgb, (void)height, (void)width;
    for (int i = 0; i < count; i++) scores[i] = (float)((*next)++ * 5 % K);
    return 0;
}

/* Rounded factors change a LoRA gradient by a little of its length and hardly its direction. */
static void bfloat16_keeps_the_direction(void **state) {
    (void)state;
    int turn = 0;
    if (backend_cpu_bf16() == BF16_NONE) skip();
    World w = world_open_for(2, by_turns, &turn);
    StepStats stats;
    StepOptions o = options(K, 0, 2);
    float *plain = gradient(&w, &o, &stats);
    for (int exact = 0; exact < 2; exact++) { /* the second rounds the convolutions of Winograd's method as well */
        backend_free(w.backend);
        w.backend = rounding(exact);
        turn = 0;
        float *grad = gradient(&w, &o, &stats);
        double product = 0, a = 0, b = 0;
        for (size_t i = 0; i < w.adapter->count; i++) {
            product += (double)plain[i] * grad[i];
            a += (double)plain[i] * plain[i];
            b += (double)grad[i] * grad[i];
        }
        double cosine = product / sqrt(a * b), gap = difference(plain, grad, w.adapter->count);
        if (!(cosine > 0.99)) fail_msg("cosine %g with the float32 gradient", cosine);
        if (!(gap > 1e-3)) fail_msg("gradients differ by %g: nothing was rounded", gap);
        free(grad);
    }
    free(plain);
    world_close(&w);
}

static void latents_of(World *w, Adapter *a, float *out, int count) {
    Error err = {0};
    GeneratorPass *pass = NULL;
    GeneratorPassOptions o = {.batch = count, .height = 16, .width = 16, .adapter = a};
    float *text = calloc(text_encoders_floats(&w->pipeline->text), sizeof *text), noise[2 * 4 * 16 * 16];
    rng_normal((RngKey){.seed = 9, .stream = RNG_TEST}, noise, sizeof noise / sizeof *noise);
    must(generator_pass_new(w->pipeline, w->backend, &o, &pass, &err), &err);
    must(generator_pass_bind(pass, NULL, &err), &err);
    must(generator_pass_forward(pass, text, noise, count, &err), &err);
    generator_pass_latents(pass, out, count);
    generator_pass_free(pass);
    free(text);
}

/* With B = 0 the policy is its reference to the last bit, although in float32 small layers use W + B A: rounding that
 * sum would lose what is learned, not rounding it would set the policy apart from its anchor by the rounding of W. */
static void a_rounding_policy_begins_as_its_reference(void **state) {
    (void)state;
    if (backend_cpu_bf16() == BF16_NONE) skip();
    enum { COUNT = 2 };
    float policy[COUNT * 4 * 16 * 16], reference[COUNT * 4 * 16 * 16];
    World w = world_open(2, redness);
    backend_free(w.backend);
    w.backend = rounding(true);
    lora_init(w.adapter, 3);
    latents_of(&w, w.adapter, policy, COUNT);
    latents_of(&w, NULL, reference, COUNT);
    assert_memory_equal(policy, reference, sizeof policy);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bfloat16_keeps_the_direction), cmocka_unit_test(a_rounding_policy_begins_as_its_reference),
        cmocka_unit_test(chunks_give_the_same_update),  cmocka_unit_test(a_memory_budget_changes_nothing),
        cmocka_unit_test(threads_give_the_same_update), cmocka_unit_test(prompts_count_by_their_spread),
        cmocka_unit_test(equal_scores_teach_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
