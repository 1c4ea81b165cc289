/* AdamW, clipping and schedules against numbers printed by PyTorch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "step/average.h"
#include "step/optimize.h"

/* after the others: it makes `fail` a macro */
#include <cmocka.h>

static Optimizer adamw(size_t count) {
    Optimizer o = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 1e-2f, .clip = 1};
    Error err = {0};
    assert_int_equal(optimizer_allocate(&o, count, &err), 0);
    return o;
}

/* torch.optim.AdamW([w], 1e-2, weight_decay=1e-2) after clip_grad_norm_([w], 1), rate 1e-2 * min(1, (k+1)/2) * (1 -
 * k/10) */
static void test_four_updates_of_pytorch(void **state) {
    (void)state;
    float w[4] = {0.5f, -0.25f, 1, 0};
    const float grads[4][4] = {
        {3, -4, 0.5f, 1e-6f}, {0.1f, 0.2f, -0.3f, 0}, {-2, 1, 5, 1e-3f}, {0.01f, 0.02f, 0, 0.3f}};
    const double norms[4] = {5.024937629699707, 0.37416577339172363, 5.4772257804870605, 0.30083218216896057};
    const double want[4][4] = {{0.494975001, -0.244987503, 0.994949996, -0.00476077385},
                               {0.487875968, -0.240749583, 0.999319851, -0.0103906607},
                               {0.486329049, -0.239013493, 0.995412409, -0.015504363},
                               {0.485156715, -0.237863451, 0.992599368, -0.0195734054}};
    Optimizer o = adamw(4);
    o.schedule = SCHEDULE_LINEAR;
    o.warmup = 2;
    o.total = 10;
    for (int k = 0; k < 4; k++) {
        float g[4];
        double norm;
        Error err = {0};
        memcpy(g, grads[k], sizeof g);
        assert_int_equal(optimizer_update(&o, w, g, &norm, &err), 0);
        assert_true(fabs(norm - norms[k]) < 1e-6);
        for (int i = 0; i < 4; i++) assert_true(fabs(w[i] - want[k][i]) < 2e-7);
    }
    assert_int_equal(o.step, 4);
    optimizer_free(&o);
}

/* A value with half the rate moves half as far and decays half as much; one with none stays, whatever its gradient. */
static void test_shares_of_the_rate(void **state) {
    (void)state;
    Optimizer o = adamw(3), plain = adamw(3);
    const float share[3] = {1, 0.5f, 0}, g[3] = {0.1f, 0.1f, 100};
    float w[3] = {1, 1, 1}, all[3] = {1, 1, 1};
    double norm;
    o.share = share;
    assert_int_equal(optimizer_update(&o, w, g, &norm, NULL), 0);
    assert_true(fabs(norm - sqrt(0.01 + 0.0025)) < 1e-6); /* nothing is clipped for a value that does not move */
    plain.clip = 0;
    assert_int_equal(optimizer_update(&plain, all, g, NULL, NULL), 0);
    assert_true(w[0] == all[0] && w[2] == 1);
    assert_true(fabs((1 - w[1]) - (1 - all[1]) / 2) < 1e-6);
    optimizer_free(&o);
    optimizer_free(&plain);
}

static void test_clip_scales_what_the_moments_see(void **state) {
    (void)state;
    Optimizer o = adamw(2);
    float w[2] = {0, 0}, g[2] = {3, 4};
    double norm;
    assert_int_equal(optimizer_update(&o, w, g, &norm, NULL), 0);
    assert_true(fabs(norm - 5) < 1e-12);
    assert_true(g[0] == 3 && g[1] == 4); /* the caller may still write it down */
    assert_true(fabs(o.m[0] - 0.06) < 1e-7 && fabs(o.m[1] - 0.08) < 1e-7);
    o.clip = 0;
    g[0] = 30;
    assert_int_equal(optimizer_update(&o, w, g, &norm, NULL), 0);
    assert_true(fabs(o.m[0] - (0.9 * 0.06 + 3)) < 1e-6);
    optimizer_free(&o);
}

static void test_a_nan_changes_nothing(void **state) {
    (void)state;
    Optimizer o = adamw(3);
    float w[3] = {1, 2, 3}, g[3] = {1, NAN, 1};
    Error err = {0};
    double norm = 0;
    assert_int_equal(optimizer_update(&o, w, g, &norm, &err), DRPO_E_NUMERIC);
    assert_non_null(strstr(err.text, "not finite"));
    assert_true(w[0] == 1 && w[1] == 2 && w[2] == 3 && o.step == 0 && o.m[0] == 0 && o.v[0] == 0);
    assert_true(g[0] == 1 && g[2] == 1);
    optimizer_free(&o);
}

static void test_schedules(void **state) {
    (void)state;
    Optimizer o = {.lr = 2, .warmup = 4, .total = 10};
    assert_true(schedule_rate(&o, 0) == 0.5f && schedule_rate(&o, 3) == 2 && schedule_rate(&o, 1000) == 2);
    o.schedule = SCHEDULE_LINEAR;
    assert_true(fabs(schedule_rate(&o, 1) - 2 * 0.5 * 0.9) < 1e-6);
    assert_true(fabs(schedule_rate(&o, 5) - 1) < 1e-6 && schedule_rate(&o, 10) == 0 && schedule_rate(&o, 11) == 0);
    o.schedule = SCHEDULE_COSINE;
    o.warmup = 0;
    assert_true(schedule_rate(&o, 0) == 2 && fabs(schedule_rate(&o, 5) - 1) < 1e-6);
    assert_true(fabs(schedule_rate(&o, 2) - (1 + cos(M_PI * 0.2))) < 1e-6);
}

static void test_average_of_the_updates(void **state) {
    (void)state;
    float average[2] = {0, 4}, values[2] = {1, 4};
    double wanted = 0;
    for (long t = 0; t < 200; t++) {
        const double decay = fmin(0.9, (1.0 + (double)t) / (10.0 + (double)t));
        values[0] = (float)(t % 7);
        wanted = decay * wanted + (1 - decay) * (double)(t % 7);
        average_update(average, values, 2, 0.9, t);
        assert_true(fabs(average[0] - wanted) < 1e-5 && average[1] == 4);
    }
    assert_true(average_decay(0.9, 0) == 0.1 && average_decay(0.9, 1000) == 0.9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_updates_of_pytorch),
        cmocka_unit_test(test_shares_of_the_rate),
        cmocka_unit_test(test_clip_scales_what_the_moments_see),
        cmocka_unit_test(test_a_nan_changes_nothing),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_average_of_the_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
