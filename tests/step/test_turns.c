/* Prompts on their way at the same time: rewards see them in their order, and the update is the same to the byte. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "step/step.h"
#include "step/turns.h"

enum { K = 4, PROMPTS = 5 };

static const Prompt prompts[PROMPTS] = {{.text = "a star"},
                                        {.text = "a red circle"},
                                        {.text = "a blue square"},
                                        {.text = "a ring"},
                                        {.text = "a heart and a moon"}};

typedef struct Calls {
    int calls, order[PROMPTS], fails_at; /* fails_at: number of the call, -1: none */
    int computing, most;                 /* in test_turns_alone */
} Calls;

/* Blueness, slowly. */
static int slow(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                int width, float *scores) {
    (void)metadata;
    Calls *c = user;
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    for (int i = 0; i < PROMPTS && c->calls < PROMPTS; i++)
        if (strcmp(prompt, prompts[i].text) == 0) c->order[c->calls] = i;
    for (int i = 0; i < count; i++) {
        scores[i] = 0;
        for (int at = 0; at < height * width; at++) scores[i] += rgb[(i * height * width + at) * 3 + 2];
    }
    return c->calls++ == c->fails_at;
}

static float *gradient(int at_once, Calls *calls, int expected, size_t *count) {
    Error err = {0};
    Pipeline *p = NULL;
    Step *step = NULL;
    NoiseSource *noise = NULL;
    RewardSet rewards;
    StepStats stats;
    RewardCallback callback = {.name = "slow", .fn = slow, .user = calls};
    assert_ok(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &p, &err), err);
    Backend *b = backend_cpu_new(1, &err);
    Adapter *a = lora_new(4, 4, "to_q,to_k,to_v,to_out.0", &err);
    assert_ok(pipeline_register(p, a, NULL, &err), err);
    assert_ok(lora_allocate(a, &err), err);
    lora_init(a, 3);
    assert_ok(reward_set_open((const char *[]){"callback:slow"}, 1, &callback, 1, &rewards, &err), err);
    StepOptions o = {.candidates = K,
                     .positives = 1,
                     .negatives = 1,
                     .features = "latent?keys=latent_mean_8,latent_std_8",
                     .drift = {.radii = {0.05f}, .n_radii = 1, .w_pos = 3000, .w_neg = 3000},
                     .threads = 1,
                     .prompts = PROMPTS,
                     .at_once = at_once};
    assert_ok(step_new(p, b, a, &o, &step, &err), err);
    StepPlan plan;
    step_plan(step, &plan);
    assert_int_equal(plan.workers, at_once ? at_once : 1);
    assert_ok(noise_open(NOISE_PHILOX, NULL, 7, 4 * 16 * 16, 0, &noise, &err), err);
    float *grad = calloc(a->count, sizeof(float));
    assert_int_equal(step_gradient(step, prompts, PROMPTS, 0, noise, &rewards, grad, &stats, &err), expected);
    *count = a->count;
    noise_close(noise);
    step_free(step);
    reward_set_close(&rewards);
    lora_free(a);
    backend_free(b);
    pipeline_free(p);
    return grad;
}

static void test_any_number_gives_the_same_update(void **state) {
    (void)state;
    Calls calls = {.fails_at = -1};
    size_t n;
    float *one = gradient(0, &calls, 0, &n), zero = 0;
    for (size_t i = 0; i < n; i++) zero += one[i] * one[i];
    assert_true(zero > 0);
    for (int at_once = 2; at_once <= PROMPTS; at_once += 3) {
        Calls again = {.fails_at = -1};
        float *other = gradient(at_once, &again, 0, &n);
        assert_memory_equal(one, other, n * sizeof *one);
        for (int i = 0; i < PROMPTS; i++) assert_int_equal(again.order[i], i);
        free(other);
    }
    free(one);
}

static void test_behind_a_failure_nothing_is_scored(void **state) {
    (void)state;
    for (int at_once = 0; at_once <= PROMPTS; at_once += PROMPTS) {
        Calls calls = {.fails_at = 2};
        size_t n;
        free(gradient(at_once, &calls, DRPO_E_REWARD, &n));
        assert_int_equal(calls.calls, 3);
    }
}

typedef struct Walker {
    Turns *turns;
    Calls *calls;
    pthread_mutex_t *lock;
    int index;
} Walker;

static void count_computing(const Walker *w, int change) {
    pthread_mutex_lock(w->lock);
    w->calls->computing += change;
    if (w->calls->computing > w->calls->most) w->calls->most = w->calls->computing;
    pthread_mutex_unlock(w->lock);
}

static void *walk(void *user) {
    Walker *w = user;
    turns_compute(w->turns);
    count_computing(w, 1);
    nanosleep(&(struct timespec){0, 1000000L * (PROMPTS - w->index)}, NULL);
    count_computing(w, -1);
    turns_rest(w->turns);
    if (turns_score(w->turns, w->index)) w->calls->order[w->calls->calls++] = w->index;
    turns_pass(w->turns, w->index == 3);
    return NULL;
}

static void test_cores_and_order(void **state) {
    (void)state;
    Turns turns;
    Calls calls = {0};
    Walker walker[PROMPTS];
    pthread_t thread[PROMPTS];
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    turns_open(&turns, 2);
    for (int i = PROMPTS - 1; i >= 0; i--) { /* the last comes first */
        walker[i] = (Walker){&turns, &calls, &lock, i};
        assert_int_equal(pthread_create(&thread[i], NULL, walk, &walker[i]), 0);
    }
    for (int i = 0; i < PROMPTS; i++) pthread_join(thread[i], NULL);
    turns_close(&turns);
    assert_int_equal(calls.calls, 4); /* 4 comes behind the failure of 3 */
    for (int i = 0; i < 4; i++) assert_int_equal(calls.order[i], i);
    assert_true(calls.most <= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_gives_the_same_update),
        cmocka_unit_test(test_behind_a_failure_nothing_is_scored),
        cmocka_unit_test(test_cores_and_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
