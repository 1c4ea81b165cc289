/* Pools: the selection against a plain Python one (tools/golden/pools.py), and updates learned from pools. */
#include <math.h>
#include <stdlib.h>

#include "../check.h"
#include "format/json.h"
#include "gradient_gap.h"
#include "step/pools.h"
#include "step/step.h"

/* ---- selection ---- */

static int numbers(const json_t *list, int *out) {
    for (size_t i = 0; i < json_array_size(list); i++) out[i] = (int)json_integer_value(json_array_get(list, i));
    return (int)json_array_size(list);
}

static void check_case(const json_t *c) {
    double scores[128];
    int wanted[128];
    const json_t *list = json_object_get(c, "scores");
    const int n = (int)json_array_size(list);
    for (int i = 0; i < n; i++) scores[i] = json_number_value(json_array_get(list, (size_t)i));
    const RngKey key = {(uint64_t)json_integer_value(json_object_get(c, "seed")), RNG_TICKET,
                        (uint32_t)json_integer_value(json_object_get(c, "update")),
                        (uint32_t)json_integer_value(json_object_get(c, "slot")), 0};
    Selection s;
    Error err = {0};
    assert_ok(pools_select(scores, n, (int)json_integer_value(json_object_get(c, "positives")),
                           (int)json_integer_value(json_object_get(c, "least")),
                           (int)json_integer_value(json_object_get(c, "negatives")), key, &s, &err),
              err);
    assert_int_equal(s.skip, json_is_true(json_object_get(c, "skip")));
    assert_int_equal(s.n_pos, numbers(json_object_get(c, "pos"), wanted));
    for (int i = 0; i < s.n_pos; i++) assert_int_equal(s.pos[i], wanted[i]);
    assert_int_equal(s.n_neg, numbers(json_object_get(c, "neg"), wanted));
    for (int i = 0; i < s.n_neg; i++) assert_int_equal(s.neg[i], wanted[i]);
}

static void test_selection_is_that_of_plain_python(void **state) {
    (void)state;
    json_t *cases = NULL;
    Error err = {0};
    assert_ok(json_load_path(SOURCE_DIR "/tests/golden/pools/pools.json", &cases, &err), err);
    assert_int_equal(json_array_size(cases), 60);
    for (size_t i = 0; i < json_array_size(cases); i++) check_case(json_array_get(cases, i));
    json_decref(cases);
}

/* The side's members are drawn uniformly: each of 6 is among 2 in a third of the prompts. */
static void test_lots_are_fair(void **state) {
    (void)state;
    const double scores[] = {1, 0, 1, 1, 1, 0, 1, 1};
    int chosen[8] = {0};
    for (uint32_t update = 0; update < 3000; update++) {
        Selection s;
        Error err = {0};
        assert_ok(pools_select(scores, 8, 2, 0, 2, (RngKey){7, RNG_TICKET, update, 0, 0}, &s, &err), err);
        for (int k = 0; k < 2; k++) chosen[s.pos[k]]++;
    }
    for (int k = 0; k < 8; k++)
        if (scores[k] == 1)
            assert_in_range(chosen[k], 900, 1100);
        else
            assert_int_equal(chosen[k], 0);
}

/* ---- updates ---- */

enum { K = 6, PROMPTS = 2 };

static const Prompt prompts[PROMPTS] = {{.text = "a photo of a star"}, {.text = "a photo of a red circle"}};

/* Says yes to the reddest pictures of each call, `yes` of them for each prompt. */
typedef struct Judge {
    int yes[PROMPTS], calls[PROMPTS];
} Judge;

static int judge(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                 int width, float *scores) {
    (void)metadata;
    Judge *j = user;
    const int which = strcmp(prompt, prompts[0].text) != 0, size = height * width;
    long red[K] = {0};
    j->calls[which]++;
    for (int i = 0; i < count; i++)
        for (int at = 0; at < size; at++) red[i] += rgb[3 * (i * size + at)] - rgb[3 * (i * size + at) + 2];
    for (int i = 0; i < count; i++) {
        int redder = 0;
        for (int k = 0; k < count; k++) redder += red[k] > red[i] || (red[k] == red[i] && k < i);
        scores[i] = redder < j->yes[which];
    }
    return 0;
}

typedef struct World {
    Pipeline *pipeline;
    Backend *backend;
    Adapter *adapter;
    RewardSet rewards;
    Judge judge;
} World;

static void world_open(World *w, int yes, int also) {
    Error err = {0};
    const RewardCallback callback = {.name = "test", .fn = judge, .user = &w->judge};
    *w = (World){.judge.yes = {yes, also}};
    assert_ok(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &w->pipeline, &err), err);
    assert_non_null(w->backend = backend_cpu_new(1, &err));
    assert_non_null(w->adapter = lora_new(4, 4, "to_q,to_k,to_v,to_out.0", &err));
    assert_ok(pipeline_register(w->pipeline, w->adapter, NULL, &err), err);
    assert_ok(lora_allocate(w->adapter, &err), err);
    rng_normal((RngKey){.seed = 5, .stream = RNG_TEST}, w->adapter->values, w->adapter->count);
    for (size_t i = 0; i < w->adapter->count; i++) w->adapter->values[i] *= 0.05f;
    assert_ok(reward_set_open((const char *const[]){"callback:test"}, 1, &callback, 1, &w->rewards, &err), err);
}

static void world_close(World *w) {
    reward_set_close(&w->rewards);
    lora_free(w->adapter);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
}

static StepOptions options(int positives, int negatives, int rounds) {
    return (StepOptions){.candidates = K,
                         .positives = positives,
                         .negatives = negatives,
                         .pools = {.rounds = rounds, .seed = 7},
                         .features = "latent?keys=latent_mean_8",
                         .drift = {.radii = {0.02f, 0.05f, 0.2f},
                                   .n_radii = 3,
                                   .w_pos = 3000,
                                   .w_neg = 3000,
                                   .w_ref = 3000,
                                   .w_ref_neg = 3000,
                                   .lambda_ref = 0.2f},
                         .threads = 1};
}

/* What the observer saw of the last update. */
static ScoredPrompt seen[PROMPTS];
static Selection seen_selection[PROMPTS];

static int observe(void *user, const ScoredPrompt *p, Error *err) {
    (void)user, (void)err;
    seen[p->slot] = *p;
    seen_selection[p->slot] = *p->selection;
    return 0;
}

/* The gradient of one update; the caller frees it. */
static float *gradient(World *w, const StepOptions *o, StepStats *stats) {
    Error err = {0};
    Step *step = NULL;
    NoiseSource *noise = NULL;
    float *grad = calloc(w->adapter->count, sizeof(float));
    memset(w->judge.calls, 0, sizeof w->judge.calls);
    assert_ok(step_new(w->pipeline, w->backend, w->adapter, o, &step, &err), err);
    assert_ok(noise_open(NOISE_PHILOX, NULL, 7, 4 * 16 * 16, 0, &noise, &err), err);
    step_observe(step, observe, NULL);
    assert_ok(step_gradient(step, prompts, PROMPTS, 0, noise, &w->rewards, grad, stats, &err), err);
    noise_close(noise);
    step_free(step);
    return grad;
}

/* When a pool takes all candidates of one round, it is the ranking: the same sets in another order. */
static void test_pools_of_all_candidates_are_the_ranking(void **state) {
    (void)state;
    World w;
    StepStats stats;
    const StepOptions ranked = options(2, 4, 0), pooled = options(2, 4, 1);
    world_open(&w, 2, 2);
    float *a = gradient(&w, &ranked, &stats), *b = gradient(&w, &pooled, &stats);
    assert_int_equal(stats.prompts_used, PROMPTS);
    assert_int_equal(stats.candidates, PROMPTS * K);
    const double gap = difference(a, b, w.adapter->count);
    if (!(gap < 1e-5)) fail_msg("gradients differ by %g", gap);
    free(a);
    free(b);
    world_close(&w);
}

/* One in six is enough after three rounds; those chosen come from all of them. */
static void test_rounds_go_on_until_there_are_enough(void **state) {
    (void)state;
    World w;
    StepStats stats;
    const StepOptions o = options(3, 3, 4);
    world_open(&w, 1, 3);
    float *grad = gradient(&w, &o, &stats);
    assert_int_equal(w.judge.calls[0], 3);
    assert_int_equal(w.judge.calls[1], 1);
    assert_int_equal(seen[0].count, 3 * K);
    assert_int_equal(seen[1].count, K);
    assert_int_equal(stats.candidates, 4 * K);
    assert_int_equal(stats.prompts_used, 2);
    assert_true(fabs(stats.reward_mean - (1 / 6.0 + 3 / 6.0) / 2) < 1e-6);
    bool round[3] = {false};
    for (int k = 0; k < 3; k++) round[seen_selection[0].pos[k] / K] = true;
    assert_true(round[0] && round[1] && round[2]);
    free(grad);
    world_close(&w);
}

/* A prompt without both sides changes nothing for the others. */
static void test_a_prompt_without_both_sides_is_skipped(void **state) {
    (void)state;
    World never, always;
    StepStats stats;
    StepOptions o = options(2, 2, 2);
    world_open(&never, 0, 3);
    world_open(&always, K, 3);
    float *a = gradient(&never, &o, &stats);
    assert_int_equal(never.judge.calls[0], 2);
    assert_int_equal(stats.prompts_used, 1);
    assert_int_equal(stats.prompts_skipped, 1);
    assert_true(seen_selection[0].skip);
    float *b = gradient(&always, &o, &stats);
    assert_int_equal(stats.prompts_skipped, 1);
    for (size_t i = 0; i < never.adapter->count; i++) assert_true(a[i] == b[i]);
    free(b);
    always.judge.yes[0] = 1; /* one positive of two: enough only when that is said */
    o.pools.rounds = 1;
    free(gradient(&always, &o, &stats));
    assert_int_equal(stats.prompts_skipped, 1);
    o.pools.positives = 1;
    free(gradient(&always, &o, &stats));
    assert_int_equal(stats.prompts_skipped, 0);
    assert_int_equal(seen_selection[0].n_pos, 1);
    free(a);
    world_close(&never);
    world_close(&always);
}

static void test_either_side_alone_may_be_moved(void **state) {
    (void)state;
    World w;
    StepStats stats;
    float *grad[3];
    world_open(&w, 3, 3);
    for (int side = 0; side < 3; side++) {
        StepOptions o = options(2, 3, 1);
        o.pools.optimize = side;
        grad[side] = gradient(&w, &o, &stats);
        o.chunk = 2; /* those who are moved do not fill the last chunk */
        float *parts = gradient(&w, &o, &stats);
        const double gap = difference(grad[side], parts, w.adapter->count);
        if (!(gap < 1e-5)) fail_msg("in chunks, gradients differ by %g", gap);
        free(parts);
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < a; b++) assert_true(difference(grad[a], grad[b], w.adapter->count) > 0.1);
    for (int side = 0; side < 3; side++) free(grad[side]);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selection_is_that_of_plain_python),
        cmocka_unit_test(test_lots_are_fair),
        cmocka_unit_test(test_pools_of_all_candidates_are_the_ranking),
        cmocka_unit_test(test_rounds_go_on_until_there_are_enough),
        cmocka_unit_test(test_a_prompt_without_both_sides_is_skipped),
        cmocka_unit_test(test_either_side_alone_may_be_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
