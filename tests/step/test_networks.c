/* Networks: what one prompt takes is measured with all that it passes through. */
#include "check.h"
#include "step/feature/feature.h"
#include "step/networks.h"

static void a_decoder_with_a_way_back_is_measured(void **state) {
    (void)state;
    Error err = {0};
    Pipeline *p = NULL;
    FeatureMaps *maps = NULL;
    int side;
    assert_ok(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &p, &err), err);
    assert_ok(pipeline_latent_side(p, 0, &side, &err), err);
    Backend *b = backend_cpu_new(1, &err);
    Adapter *a = lora_new(4, 4, "to_q", &err);
    assert_ok(pipeline_register(p, a, NULL, &err), err);
    assert_ok(lora_allocate(a, &err), err);
    assert_ok(feature_maps_open(NULL, p, side, side, true, &maps, &err), err);
    const FeatureBuilder features = feature_maps_builder(maps, FEATURES_BEHIND), none = {0};
    NetworksOptions o = {.rounds = 1, .candidates = 4, .height = side, .width = side, .adapter = a};
    o.features = &features;
    o.aside = o.given = &none;
    for (o.chunk = 1; o.chunk <= 4; o.chunk += 3) {
        size_t without, with;
        o.differentiates = false;
        assert_ok(networks_measure(p, b, &o, &without, &err), err);
        o.differentiates = true;
        assert_ok(networks_measure(p, b, &o, &with, &err), err);
        /* a picture and its gradient at the least */
        const size_t pixels = (size_t)(side * p->factor) * (size_t)(side * p->factor);
        assert_true(with >= without + 2 * 3 * pixels * sizeof(float));
    }
    feature_maps_close(maps);
    lora_free(a);
    backend_free(b);
    pipeline_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_decoder_with_a_way_back_is_measured)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
