/* Gauges of reward hacking: each formula against numbers computed by hand and with NumPy. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "step/gauges.h"

static void check_close(double got, double wanted) {
    if (!(fabs(got - wanted) <= 1e-12 * fmax(1, fabs(wanted)))) fail_msg("%.17g instead of %.17g", got, wanted);
}

/* Distances sqrt(25/2), sqrt(4/2), sqrt(13/2) of three points. */
static void test_pairwise(void **state) {
    (void)state;
    const float rows[] = {0, 0, 3, 4, 0, 2, 9, 9};
    check_close(gauge_pairwise(rows, 3, 2), (5 + 2 + sqrt(13)) / sqrt(2) / 3);
    check_close(gauge_pairwise(rows, 2, 2), 5 / sqrt(2));
    const float same[] = {1, 2, 1, 2};
    check_close(gauge_pairwise(same, 2, 2), 0);
    assert_true(isnan(gauge_pairwise(rows, 1, 2)) && isnan(gauge_pairwise(rows, 0, 2)));
}

static void test_saturation(void **state) {
    (void)state;
    const uint8_t grey[] = {7, 7, 7, 255, 255, 255}, red[] = {255, 0, 0}, dark[] = {51, 0, 0};
    check_close(gauge_saturation(grey, 2), 0);
    check_close(gauge_saturation(red, 1), 1);
    check_close(gauge_saturation(dark, 1), 0.2); /* its hue is as pure, but hardly seen */
    const uint8_t mixed[] = {10, 200, 30, 200, 30, 10, 30, 10, 200, 0, 0, 0};
    check_close(gauge_saturation(mixed, 4), 3 * 190 / (255.0 * 4)); /* whichever channel is least and most */
}

/* One white pixel on black: itself 4, its four neighbours -1: (16 + 4) / 20 over the pixels. */
static void test_high_frequency(void **state) {
    (void)state;
    uint8_t rgb[5 * 4 * 3] = {0};
    memset(rgb + (2 * 4 + 1) * 3, 255, 3);
    check_close(gauge_high_frequency(rgb, 5, 4), 1.0 / 20);
    memset(rgb, 0, sizeof rgb);
    memset(rgb, 255, 3); /* in a corner: itself 2, its two neighbours -1 */
    check_close(gauge_high_frequency(rgb, 5, 4), (4 + 1 + 1) / 20.0 / 20);
    memset(rgb, 93, sizeof rgb);
    check_close(gauge_high_frequency(rgb, 5, 4), 0);
    const uint8_t one[] = {255, 0, 0};
    check_close(gauge_high_frequency(one, 1, 1), 0);
}

/* A ramp has no second difference but at its ends; colours of the same luma none at all. */
static void test_high_frequency_sees_luma_only(void **state) {
    (void)state;
    uint8_t ramp[6 * 3];
    for (int i = 0; i < 6; i++) memset(ramp + 3 * i, 40 * i, 3);
    check_close(gauge_high_frequency(ramp, 1, 6), 2 * pow(40.0 / 255, 2) / 20 / 6);
    const uint8_t red_blue[] = {114, 0, 0, 0, 0, 255}, step[] = {114, 0, 0, 0, 0, 0};
    const double difference = (0.299 * 114 - 0.114 * 255) / 255, red = 0.299 * 114 / 255;
    check_close(gauge_high_frequency(red_blue, 1, 2), difference * difference / 20);
    check_close(gauge_high_frequency(step, 1, 2), red * red / 20);
}

/* NumPy, float64: numpy.random.RandomState(5).randint(0, 256, (7, 9, 3)) and of RandomState(6). The generator is the
 * Mersenne Twister with masked rejection: 8 bits of every draw. */
#include "base/rng.h"

static void numpy_picture(uint32_t seed, uint8_t *rgb, size_t n) {
    static Mt19937 g;
    mt19937_seed(&g, seed);
    for (size_t i = 0; i < n; i++) rgb[i] = (uint8_t)(mt19937_next(&g) & 255);
}

static void test_numpy(void **state) {
    (void)state;
    uint8_t a[7 * 9 * 3], b[7 * 9 * 3];
    numpy_picture(5, a, sizeof a);
    numpy_picture(6, b, sizeof b);
    check_close(gauge_saturation(a, 63), 0.4954870837223779);
    check_close(gauge_high_frequency(a, 7, 9), 0.036115194823212064);
    check_close(gauge_pixel_distance(a, b, sizeof a), 0.3153854134246291);
    float x[189], y[189];
    for (int i = 0; i < 189; i++) x[i] = a[i], y[i] = b[i];
    double difference = 0, norm = 0;
    gauge_squares(x, y, 100, &difference, &norm); /* in two parts */
    gauge_squares(x + 100, y + 100, 89, &difference, &norm);
    check_close(sqrt(difference / norm), 0.6972757241431753);
    check_close(gauge_pairwise(x, 7, 27), 105.3647430971605);
}

static void test_distances(void **state) {
    (void)state;
    const float base[] = {3, 0, 4, 0}, x[] = {3, 1, 4, 2};
    double difference = 0, norm = 0;
    gauge_squares(x, base, 4, &difference, &norm);
    check_close(difference, 5);
    check_close(norm, 25);
    const uint8_t black[] = {0, 0, 0, 255, 255, 255}, other[] = {51, 0, 0, 255, 204, 255};
    check_close(gauge_pixel_distance(other, black, 6), 2 * 0.2 / 6);
    check_close(gauge_ratio(3, 2), 1.5);
    assert_true(isnan(gauge_ratio(1, 0)) && isnan(gauge_ratio(NAN, 1)) && isnan(gauge_ratio(1, NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairwise),       cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_high_frequency), cmocka_unit_test(test_high_frequency_sees_luma_only),
        cmocka_unit_test(test_numpy),          cmocka_unit_test(test_distances)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
