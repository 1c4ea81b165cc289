/* Every op of the engine, from one table (op_cases.h): values and gradients of the cpu backend against the
 * double-precision reference, the reference's gradients against central differences, and the table against ops.def. */
#include "engine/graph_private.h"
#include "engine/op_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

enum { RESULTS = CASE_LEAVES + 1 }; /* y, then one gradient per leaf */

typedef struct Results {
    int n;
    size_t count[RESULTS];
    float *values[RESULTS];
} Results;

static void must(int code, const Error *err, const OpCase *row) {
    if (code < 0) fail_msg("%s: %s", row->name, err->text);
}

static void free_results(Results *r) {
    for (int i = 0; i < r->n; i++) free(r->values[i]);
}

static void read_result(const Plan *p, Value v, Results *r) {
    r->count[r->n] = (size_t)shape_count(v->shape);
    r->values[r->n] = malloc(r->count[r->n] * sizeof(float));
    plan_read(p, v, r->values[r->n++]);
}

/* Backends keep packed copies of frozen weights: the same case without gradients for them takes other paths. */
static void freeze_weights(CaseGraph *c) {
    int kept = 0;
    for (int i = 0; i < c->n_leaf; i++) {
        if (c->leaf[i]->op == OP_PARAM) {
            c->leaf[i]->param->trainable = false;
        } else {
            c->leaf[kept] = c->leaf[i];
            c->values[kept++] = c->values[i];
        }
    }
    c->n_leaf = kept;
}

/* Appends the gradients of a seed on y; grads[i] belongs to leaf i. */
static Value append_gradients(CaseGraph *c, Value *grads) {
    Error err = {0};
    Value seed = input(c->g, "seed", DT_F32, c->y->shape);
    must(graph_backward(c->g, &c->y, &seed, 1, c->leaf, c->n_leaf, grads, &err), &err, c->row);
    for (int i = 0; i < c->n_leaf; i++)
        if (!grads[i]) fail_msg("%s: leaf %d has no gradient", c->row->name, i);
    return seed;
}

static void run_case(const OpCase *row, Backend *b, bool frozen, Results *out) {
    Error err = {0};
    Arena *arena = arena_new();
    CaseGraph c;
    Value grads[CASE_LEAVES], seed = NULL;
    Plan *p;
    *out = (Results){0};
    must(case_build(row, arena, &c, &err), &err, row);
    if (frozen) freeze_weights(&c);
    if (!row->forward_only && c.n_leaf) seed = append_gradients(&c, grads);
    must(plan_new(c.g, b, &p, &err), &err, row);
    must(plan_bind(p, NULL, &err), &err, row);
    case_write(&c, p);
    if (seed) plan_write(p, seed, case_values(&c, 99, (size_t)shape_count(seed->shape), 1, 0));
    must(plan_run(p, &err), &err, row);
    read_result(p, c.y, out);
    for (int i = 0; seed && i < c.n_leaf; i++) read_result(p, grads[i], out);
    plan_free(p);
    arena_free(arena);
}

/* |a - b| / |b| over all elements. */
static double relative_error(const float *a, const float *b, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(difference) / (sqrt(size) + 1e-12);
}

/* Weights are keyed by address, which a later case may reuse: one backend per case. Returns how many results are wrong.
 */
static int compare_case(const OpCase *row, bool frozen) {
    Error err = {0};
    Backend *ref = backend_ref_new(&err), *cpu = backend_cpu_new(2, &err);
    if (!ref || !cpu) fail_msg("%s", err.text);
    Results expected, got;
    int wrong = 0;
    run_case(row, ref, frozen, &expected);
    run_case(row, cpu, frozen, &got);
    assert_int_equal(got.n, expected.n);
    for (int k = 0; k < got.n; k++) {
        double error = relative_error(got.values[k], expected.values[k], got.count[k]);
        if (error < 1e-5) continue;
        print_error("%s%s: %s %d is off by %.2e\n", row->name, frozen ? ", frozen" : "",
                    k ? "gradient of leaf" : "result", k ? k - 1 : 0, error);
        wrong++;
    }
    free_results(&expected);
    free_results(&got);
    backend_free(ref);
    backend_free(cpu);
    return wrong;
}

static void cpu_agrees_with_reference(void **state) {
    (void)state;
    int wrong = 0;
    for (int i = 0; i < N_OP_CASES; i++) {
        wrong += compare_case(&op_cases[i], false);
        wrong += compare_case(&op_cases[i], true);
    }
    assert_int_equal(wrong, 0);
}

/* ---- finite differences ---- */
typedef struct Loss {
    CaseGraph c;
    Backend *b;
    Plan *p;
    Value node;
    double value;
} Loss;

static void keep_loss(void *user, const Node *n, const void *device) {
    Loss *loss = user;
    if (n == loss->node) loss->value = *(const double *)device;
}

static double loss_of(Loss *loss) {
    Error err = {0};
    for (int i = 0; i < loss->c.n_leaf; i++)
        if (loss->c.leaf[i]->op == OP_PARAM) loss->b->refresh(loss->b, loss->c.leaf[i]->param);
    case_write(&loss->c, loss->p);
    must(plan_run(loss->p, &err), &err, loss->c.row);
    return loss->value;
}

/* loss = sum(y * seed), kept in double precision by a tap */
static void open_loss(Loss *loss, const OpCase *row, Arena *arena) {
    Error err = {0};
    loss->b = backend_ref_new(&err);
    must(case_build(row, arena, &loss->c, &err), &err, row);
    Graph *g = loss->c.g;
    Shape s = loss->c.y->shape, one = s;
    for (int i = 0; i < one.rank; i++) one.dim[i] = 1;
    Value seed = input(g, "seed", DT_F32, s);
    loss->node = output(g, sum_to(g, mul(g, loss->c.y, seed), one), "loss");
    must(plan_new(g, loss->b, &loss->p, &err), &err, row);
    must(plan_bind(loss->p, NULL, &err), &err, row);
    plan_tap(loss->p, keep_loss, loss);
    plan_write(loss->p, seed, case_values(&loss->c, 99, (size_t)shape_count(s), 1, 0));
}

/* Compares up to 16 entries of one leaf's gradient; returns how many are wrong. */
static int check_leaf(Loss *loss, int leaf, const float *gradient, size_t count) {
    const float step = 0x1p-13f;
    double size = 0;
    int wrong = 0;
    for (size_t i = 0; i < count; i++) size += pow((double)gradient[i], 2) / (double)count;
    size_t stride = count / 16 + 1;
    for (size_t i = 0; i < count; i += stride) {
        float *value = &loss->c.values[leaf][i], kept = *value;
        *value = kept + step;
        double above = loss_of(loss);
        *value = kept - step;
        double below = loss_of(loss);
        *value = kept;
        double slope = (above - below) / (2 * (double)step);
        if (fabs(slope - (double)gradient[i]) < 2e-6 * (fabs(slope) + sqrt(size)) + 1e-9) continue;
        print_error("%s: leaf %d element %zu: gradient %.9g, differences say %.9g\n", loss->c.row->name, leaf, i,
                    (double)gradient[i], slope);
        wrong++;
    }
    return wrong;
}

static void gradients_match_finite_differences(void **state) {
    (void)state;
    Error err = {0};
    int wrong = 0;
    for (int i = 0; i < N_OP_CASES; i++) {
        const OpCase *row = &op_cases[i];
        if (row->slow || row->forward_only) continue;
        Backend *ref = backend_ref_new(&err);
        Results analytic;
        Loss loss = {0};
        Arena *arena = arena_new();
        run_case(row, ref, false, &analytic);
        open_loss(&loss, row, arena);
        for (int leaf = 0; leaf < loss.c.n_leaf; leaf++)
            wrong += check_leaf(&loss, leaf, analytic.values[leaf + 1], analytic.count[leaf + 1]);
        plan_free(loss.p);
        backend_free(loss.b);
        backend_free(ref);
        free_results(&analytic);
        arena_free(arena);
    }
    assert_int_equal(wrong, 0);
}

static void table_covers_every_op(void **state) {
    (void)state;
    Error err = {0};
    bool seen[OP_COUNT] = {false};
    for (int i = 0; i < N_OP_CASES; i++) {
        Arena *arena = arena_new();
        CaseGraph c;
        Value grads[CASE_LEAVES];
        must(case_build(&op_cases[i], arena, &c, &err), &err, &op_cases[i]);
        for (int id = 0; id < graph_size(c.g); id++) {
            Op op = graph_node(c.g, id)->op;
            if (op_info(op)->vjp == vjp_none) fail_msg("%s: forward op %s has no VJP", op_cases[i].name, op_name(op));
        }
        if (!op_cases[i].forward_only) append_gradients(&c, grads);
        for (int id = 0; id < graph_size(c.g); id++) seen[graph_node(c.g, id)->op] = true;
        arena_free(arena);
    }
    for (int op = 0; op < OP_COUNT; op++)
        if (!seen[op]) fail_msg("no case covers %s", op_name((Op)op));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_covers_every_op),
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(cpu_agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
