/* Several adapters as one: what they add to every weight is the sum, with their scales, ranks and modules. */
#include "check.h"

#include "model/lora.h"

#include <math.h>
#include <stdlib.h>

#include "model/lora_private.h"

enum { IN = 5, OUT = 3 };

typedef struct Part {
    const char *module;
    int rank;
    float scale;
} Part;

static Adapter *make(const Part *part, int n, uint64_t seed) {
    Error err = {0};
    Adapter *a = lora_new(2, 2, "", &err);
    assert_non_null(a);
    for (int i = 0; i < n; i++)
        assert_ok(lora_register_pair(a, part[i].module, IN, OUT, part[i].rank, part[i].scale, &err), err);
    assert_ok(lora_allocate(a, &err), err);
    for (size_t i = 0; i < a->count; i++) a->values[i] = sinf((float)(i + 1) * (float)seed);
    return a;
}

/* scale B A at [o,i], 0 where the module is not adapted */
static double added(Adapter *a, const char *module, int o, int i) {
    const LoraPair *p = lora_find(a, module);
    double sum = 0;
    if (!p) return 0;
    const float *down = p->a.data, *up = p->b.data;
    for (int k = 0; k < p->rank; k++) sum += (double)up[o * p->rank + k] * (double)down[k * IN + i];
    return sum * (double)p->scale;
}

static void the_sum_is_what_is_added(void **state) {
    (void)state;
    Error err = {0};
    Adapter *a = make((Part[]){{"x.to_q", 2, 0.5f}, {"x.to_k", 1, 2}}, 2, 3);
    Adapter *b = make((Part[]){{"x.to_k", 4, -0.25f}, {"x.to_v", 3, 1}}, 2, 7), *both = NULL;
    assert_ok(lora_combine(a, b, &both, &err), err);
    assert_int_equal(both->n_pair, 3);
    assert_int_equal(lora_find(both, "x.to_k")->rank, 5);
    const char *module[] = {"x.to_q", "x.to_k", "x.to_v"};
    for (int m = 0; m < 3; m++)
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) {
                double expected = added(a, module[m], o, i) + added(b, module[m], o, i);
                assert_true(fabs(added(both, module[m], o, i) - expected) < 1e-6);
                assert_true(fabs(expected) > 1e-9);
            }
    lora_free(a);
    lora_free(b);
    lora_free(both);
}

static void two_sizes_of_a_module_are_refused(void **state) {
    (void)state;
    Error err = {0};
    Adapter *a = make((Part[]){{"x.to_q", 2, 1}}, 1, 3), *b = lora_new(1, 1, "", &err), *both = NULL;
    assert_ok(lora_register_pair(b, "x.to_q", IN + 1, OUT, 1, 1, &err), err);
    assert_ok(lora_allocate(b, &err), err);
    assert_fails(lora_combine(a, b, &both, &err), DRPO_E_INPUT, "x.to_q", err);
    lora_free(a);
    lora_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_what_is_added),
        cmocka_unit_test(two_sizes_of_a_module_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
