/* Reverse-mode differentiation: one sweep over the nodes from the outputs to the leaves.
 *
 *     d(loss)/d(x) = sum over users y of x of  (dy/dx)^T d(loss)/d(y)
 *
 * Only nodes that depend on a requested leaf AND lead to a seeded output take part, so a frozen weight gets no gradient
 * and nothing below the first trainable layer is visited. */
#include "engine/autodiff.h"
#include "engine/graph_private.h"

#include <string.h>

void vjp_leaf(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    (void)g, (void)n, (void)dy, (void)need, (void)dx;
}
void vjp_none(Graph *g, Node *n, Value dy, const bool *need, Value *dx) {
    (void)g, (void)n, (void)dy, (void)need, (void)dx;
}

/* on_path[id]: the node depends on a leaf and an output depends on it. */
static bool *find_path(Graph *g, const Value *outputs, int n_out, const Value *leaves, int n_leaf) {
    bool *depends = arena_alloc(g->arena, (size_t)g->n + 1), *leads = arena_alloc(g->arena, (size_t)g->n + 1);
    if (!depends || !leads) return NULL;
    for (int i = 0; i < n_leaf; i++) depends[leaves[i]->id] = true;
    for (int i = 0; i < n_out; i++) leads[outputs[i]->id] = true;
    for (int id = 0; id < g->n; id++) {
        const Node *n = g->node[id];
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && depends[n->in[i]->id]) depends[id] = true;
    }
    for (int id = g->n - 1; id >= 0; id--) {
        const Node *n = g->node[id];
        for (int i = 0; leads[id] && i < n->n_in; i++)
            if (n->in[i]) leads[n->in[i]->id] = true;
        depends[id] = depends[id] && leads[id];
    }
    return depends;
}

/* y = act(product) becomes p = product; y = act(p): the derivative of the activation needs p. The node itself turns
 * into the activation, so that whoever holds it still holds y. */
static int split_activations(Graph *g, const bool *on_path, Error *err) {
    Node **list = arena_alloc(g->arena, (size_t)(2 * g->n + 1) * sizeof *list);
    int n = 0;
    for (int id = 0; list && id < g->n; id++) {
        Node *y = g->node[id];
        bool product = y->op == OP_LINEAR || y->op == OP_CONV2D;
        if (product && y->attr.act != ACT_NONE && on_path[id]) {
            Node *p = arena_alloc(g->arena, sizeof *p);
            if (!p) return fail(err, DRPO_E_MEMORY, "out of memory while gradients are laid out");
            *p = *y;
            p->attr.act = ACT_NONE;
            p->output = false;
            p->name = NULL;
            y->op = OP_ACT;
            y->attr = (Attr){.act = y->attr.act};
            y->n_in = 1;
            memset(y->in, 0, sizeof y->in);
            y->in[0] = p;
            list[n++] = p;
        }
        list[n++] = y;
    }
    if (!list) return fail(err, DRPO_E_MEMORY, "out of memory while gradients are laid out");
    if (n != g->n) graph_set_nodes(g, list, n);
    return 0;
}

/* A LINEAR_DX that this very VJP appended has no other user yet and can take the rest of the sum as its residual. */
static bool takes_residual(const Node *x, const Node *rest, int first) {
    return x->op == OP_LINEAR_DX && x->n_in == 2 && x->id >= first && rest->id < x->id;
}

/* sum <- sum + more; `first` is the size of the graph before this VJP. A residual saves a pass over memory. */
static Value accumulate(Graph *g, Value sum, Value more, int first) {
    if (!sum) return more;
    Value product = takes_residual(more, sum, first) ? more : takes_residual(sum, more, first) ? sum : NULL;
    if (!product) return add(g, sum, more);
    product->in[2] = product == more ? sum : more;
    product->n_in = 3;
    return product;
}

static int differentiate(Graph *g, Node *n, const bool *on_path, Value *gradient, Error *err) {
    const OpInfo *info = op_info(n->op);
    bool need[MAX_INPUTS] = {false};
    Value dx[MAX_INPUTS] = {NULL};
    if (info->vjp == vjp_none)
        return fail(err, DRPO_E_INTERNAL, "%s%s%s is on the path of a gradient but has no VJP", info->name,
                    n->name ? " " : "", n->name ? n->name : "");
    for (int i = 0; i < n->n_in; i++) need[i] = n->in[i] && on_path[n->in[i]->id];
    int first = g->n;
    info->vjp(g, n, gradient[n->id], need, dx);
    for (int i = 0; i < n->n_in; i++) {
        if (!need[i]) continue;
        TRY(graph_check(g, err));
        if (!dx[i]) return fail(err, DRPO_E_INTERNAL, "%s has no gradient for its input %d", info->name, i);
        Value *sum = &gradient[n->in[i]->id];
        *sum = accumulate(g, *sum, dx[i], first);
    }
    return graph_check(g, err);
}

static int check_request(Graph *g, const Value *outputs, const Value *seeds, int n_out, const Value *leaves, int n_leaf,
                         Error *err) {
    TRY(graph_check(g, err));
    for (int i = 0; i < n_out; i++) {
        char a[96], b[96];
        if (!outputs[i] || !seeds[i])
            return fail(err, DRPO_E_INTERNAL, "output or seed %d of a gradient is missing", i);
        if (!shape_equal(outputs[i]->shape, seeds[i]->shape))
            return fail(err, DRPO_E_INTERNAL, "seed %d has shape %s, its output %s", i, shape_text(seeds[i]->shape, a),
                        shape_text(outputs[i]->shape, b));
    }
    for (int j = 0; j < n_leaf; j++)
        if (!leaves[j] || !is_leaf(leaves[j]))
            return fail(err, DRPO_E_INTERNAL, "leaf %d of a gradient is neither an input nor a parameter", j);
    return 0;
}

static int sweep(Graph *g, const bool *on_path, const Value *outputs, const Value *seeds, int n_out, Value *gradient,
                 int n_forward, Error *err) {
    for (int i = 0; i < n_out; i++)
        if (on_path[outputs[i]->id]) gradient[outputs[i]->id] = accumulate(g, gradient[outputs[i]->id], seeds[i], g->n);
    for (int id = n_forward - 1; id >= 0; id--)
        if (on_path[id] && gradient[id]) TRY(differentiate(g, g->node[id], on_path, gradient, err));
    return graph_check(g, err);
}

int graph_backward(Graph *g, const Value *outputs, const Value *seeds, int n_out, const Value *leaves, int n_leaf,
                   Value *grads, Error *err) {
    TRY(check_request(g, outputs, seeds, n_out, leaves, n_leaf, err));
    bool *on_path = find_path(g, outputs, n_out, leaves, n_leaf);
    if (!on_path) return fail(err, DRPO_E_MEMORY, "out of memory while gradients are laid out");
    TRY(split_activations(g, on_path, err));
    on_path = find_path(g, outputs, n_out, leaves, n_leaf);
    Value *gradient = arena_alloc(g->arena, (size_t)(g->n + 1) * sizeof *gradient);
    if (!on_path || !gradient) return fail(err, DRPO_E_MEMORY, "out of memory while gradients are laid out");
    int segment = g->segment, n_forward = g->n;
    g->backward = true;
    g->segment = 0;
    int code = sweep(g, on_path, outputs, seeds, n_out, gradient, n_forward, err);
    for (int j = 0; code == 0 && j < n_leaf; j++) {
        grads[j] = gradient[leaves[j]->id];
        if (grads[j]) grads[j] = output(g, grads[j], NULL);
    }
    if (code == 0) code = graph_check(g, err);
    g->backward = false;
    g->segment = segment;
    return code;
}
