/* Recomputing segments: gradients stay bit for bit the same, the peak obeys the budget, and no more segments are
 * recomputed than it takes. */
#include "engine/graph_private.h"
#include "engine/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BLOCKS = 6, IMAGE = 2 * 4 * 6 * 6 };

typedef struct Fixture {
    Arena *arena;
    Backend *b;
} Fixture;

static int setup(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    f->arena = arena_new();
    f->b = backend_ref_new(NULL);
    *state = f;
    return f->arena && f->b ? 0 : -1;
}

static int teardown(void **state) {
    Fixture *f = *state;
    backend_free(f->b);
    arena_free(f->arena);
    free(f);
    return 0;
}

/* A trainable linear layer, then resnet blocks with one skip connection over all of them; gradients of the layer. */
typedef struct Net {
    Graph *g;
    Value y, grads[2];
} Net;

static Net build(Fixture *f, bool fuse) {
    Error err = {0};
    Net net = {.g = graph_new(f->arena)};
    Graph *g = net.g;
    Value ab[2], x = input(g, "x", DT_F32, shape4(2, 4, 6, 6));
    Value h = to_image(g, net_lora(g, to_tokens(g, x), 4, 900, ab), 6, 6), skip = NULL;
    for (int i = 0; i < BLOCKS; i++) {
        h = net_resnet(g, net_resnet(g, h, i + 1), i + 1); /* one segment */
        if (i == 0) skip = h;
    }
    net.y = output(g, add(g, h, skip), "y");
    if (fuse) assert_int_equal(fuse_graph(g, &err), 0);
    Value seed = input(g, "seed", DT_F32, net.y->shape);
    if (graph_backward(g, &net.y, &seed, 1, ab, 2, net.grads, &err) < 0) fail_msg("%s", err.text);
    return net;
}

typedef struct Numbers {
    float y[IMAGE], a[8], b[8];
} Numbers;

static Numbers evaluate(Fixture *f, const Net *net) {
    Error err = {0};
    Numbers n;
    Plan *p;
    float scratch[IMAGE];
    if (plan_new(net->g, f->b, &p, &err) < 0 || plan_bind(p, NULL, &err) < 0) fail_msg("%s", err.text);
    net_write(net->g, p, scratch);
    assert_int_equal(plan_run(p, &err), 0);
    plan_read(p, net->y, n.y);
    plan_read(p, net->grads[0], n.a);
    plan_read(p, net->grads[1], n.b);
    plan_free(p);
    return n;
}

static int forward_kernels_in_backward(const Graph *g) {
    int n = 0;
    for (int id = 0; id < graph_size(g); id++) {
        const Node *x = graph_node(g, id);
        n += x->backward && (x->op == OP_CONV2D || x->op == OP_GROUP_NORM);
    }
    return n;
}

static void gradients_are_the_same_under_any_budget(void **state) {
    Fixture *f = *state;
    for (int fuse = 0; fuse < 2; fuse++) {
        Net plain = build(f, fuse);
        Numbers expected = evaluate(f, &plain);
        size_t full = plan_measure(plain.g, f->b), least = full, peak;
        int recomputed = 0;
        for (size_t budget = full - 64; budget >= 64; budget -= full / 16 < budget ? full / 16 : budget) {
            Error err = {0};
            Net net = build(f, fuse);
            int code = recompute_graph(net.g, f->b, budget, &peak, &err);
            assert_int_equal(peak, plan_measure(net.g, f->b));
            if (code == 0) assert_true(peak <= budget);
            if (code < 0) {
                assert_int_equal(code, DRPO_E_MEMORY);
                assert_non_null(strstr(err.text, "budget"));
                assert_true(peak > budget);
            }
            Numbers got = evaluate(f, &net);
            assert_memory_equal(&got, &expected, sizeof got);
            assert_true(forward_kernels_in_backward(net.g) >= recomputed); /* a smaller budget never costs less work */
            recomputed = forward_kernels_in_backward(net.g);
            if (peak < least) least = peak;
        }
        print_message("%s: peak %zu bytes, %zu with recomputation\n", fuse ? "fused" : "plain", full, least);
        assert_true(recomputed >= BLOCKS);
        assert_true(least * 10 < full * 8);
    }
}

static void a_generous_budget_changes_nothing(void **state) {
    Fixture *f = *state;
    Net net = build(f, true);
    size_t full = plan_measure(net.g, f->b), peak = 0;
    int size = graph_size(net.g);
    assert_int_equal(recompute_graph(net.g, f->b, full, &peak, NULL), 0);
    assert_int_equal(peak, full);
    assert_int_equal(recompute_graph(net.g, f->b, 0, &peak, NULL), 0);
    assert_int_equal(graph_size(net.g), size);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gradients_are_the_same_under_any_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_generous_budget_changes_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
