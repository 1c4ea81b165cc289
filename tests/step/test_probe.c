/* Probe: distances in the run's features against pooling by hand, one by one and all at once, with and without text. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "step/gauges.h"
#include "step/probe.h"

enum { N = 16, SIDE = 16, CHANNELS = 4, SIZE = CHANNELS * SIDE * SIDE };

typedef struct World {
    Pipeline *pipeline;
    Backend *backend;
    Adapter *adapter;
    Step *step;
    Probe *probe;
    float latents[N * SIZE];
} World;

static void open_world(World *w, const char *features, MethodKind method, int chunk) {
    Error err = {0};
    *w = (World){0};
    assert_ok(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &w->pipeline, &err), err);
    w->backend = backend_cpu_new(1, &err);
    assert_non_null(w->backend);
    w->adapter = lora_new(2, 2, "to_q", &err);
    assert_non_null(w->adapter);
    assert_ok(pipeline_register(w->pipeline, w->adapter, NULL, &err), err);
    assert_ok(lora_allocate(w->adapter, &err), err);
    const StepOptions o = {.candidates = 4,
                           .positives = 1,
                           .negatives = 1,
                           .chunk = chunk,
                           .features = features,
                           .drift = {.radii = {0.1f}, .n_radii = 1, .w_pos = 1, .w_neg = 1},
                           .learn.method.kind = method,
                           .threads = 1};
    assert_ok(step_new(w->pipeline, w->backend, w->adapter, &o, &w->step, &err), err);
    assert_ok(probe_new(w->step, N, &w->probe, &err), err);
    rng_normal((RngKey){.seed = 8, .stream = RNG_TEST}, w->latents, N * SIZE);
}

static void close_world(World *w) {
    probe_free(w->probe);
    step_free(w->step);
    lora_free(w->adapter);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
}

static void run(World *w, const char *prompt, uint64_t seed, int count, double *mean) {
    Error err = {0};
    const RngKey key = {.seed = seed, .stream = RNG_FEATURE};
    assert_ok(probe_run(w->probe, prompt, key, w->latents, count, mean, &err), err);
}

static void check_close(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-5 * fabs(wanted)) || !(wanted > 0)) fail_msg("%.9g instead of %.9g", got, wanted);
}

/* Means over cells of 8 x 8, in any order. */
static double by_hand(const float *latents, int count) {
    enum { CELLS = SIDE / 8 };
    float pooled[N * CHANNELS * CELLS * CELLS];
    for (int i = 0; i < count * CHANNELS; i++)
        for (int cell = 0; cell < CELLS * CELLS; cell++) {
            double sum = 0;
            for (int k = 0; k < 64; k++)
                sum += latents[(i * SIDE + cell / CELLS * 8 + k / 8) * SIDE + cell % CELLS * 8 + k % 8];
            pooled[i * CELLS * CELLS + cell] = (float)(sum / 64);
        }
    return gauge_pairwise(pooled, count, CHANNELS * CELLS * CELLS);
}

static void test_by_hand(void **state) {
    (void)state;
    World w;
    double mean[2];
    open_world(&w, "latent?keys=latent,latent_mean_8", METHOD_DRPO, 0);
    assert_int_equal(probe_keys(w.probe), 2);
    for (int count = 2; count <= N; count += 3) {
        run(&w, "a star", 0, count, mean);
        check_close(mean[0], gauge_pairwise(w.latents, count, SIZE));
        check_close(mean[1], by_hand(w.latents, count));
    }
    run(&w, "a star", 0, 1, mean);
    assert_true(isnan(mean[0]));
    close_world(&w);
}

/* Where the update's memory is too small for all, they go through one by one. */
static void test_batches(void **state) {
    (void)state;
    World w;
    double all[MAX_FEATURE_KEYS], single[MAX_FEATURE_KEYS];
    open_world(&w, "teacher", METHOD_DRPO, 4);
    run(&w, "a star", 0, N, all);
    close_world(&w);
    open_world(&w, "teacher", METHOD_DRPO, 1);
    run(&w, "a star", 0, N, single);
    const int keys = probe_keys(w.probe);
    close_world(&w);
    assert_true(keys > 0);
    for (int k = 0; k < keys; k++) check_close(single[k], all[k]);
}

static void test_text(void **state) {
    (void)state;
    World w;
    double star[MAX_FEATURE_KEYS], square[MAX_FEATURE_KEYS], again[MAX_FEATURE_KEYS];
    open_world(&w, "teacher", METHOD_DRPO, 0);
    run(&w, "a star", 0, N, star);
    run(&w, "two red squares", 0, N, square);
    run(&w, "a star", 0, N, again);
    for (int k = 0; k < probe_keys(w.probe); k++)
        assert_true(star[k] > 0 && star[k] != square[k] && star[k] == again[k]);
    close_world(&w);
}

static void test_no_features(void **state) {
    (void)state;
    World w;
    open_world(&w, "latent", METHOD_DPO, 0);
    assert_null(w.probe);
    assert_true(probe_keys(w.probe) == 0 && probe_records(w.probe) == 0);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand), cmocka_unit_test(test_batches),
                                       cmocka_unit_test(test_text), cmocka_unit_test(test_no_features)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
