/* Fusion: fewer passes over memory in the forward graph, before gradients are appended.
 *
 *     s * linear(x, w)                      -> linear with alpha = s            (the scale of a LoRA branch)
 *     linear or conv2d + r                  -> the product with residual r
 *     linear(linear(x, A), B) * s + W x     -> linear(u, B, residual W x, alpha s)
 *     act(group_norm(x))                    -> group_norm with act, which its gradient recomputes
 *     act(linear or conv2d)                 -> the product with act; autodiff splits it again where a gradient passes
 *
 * A node is absorbed only when nobody else uses it. The absorbing node is rewritten in place, so values that callers
 * hold (outputs, results of whole layers) stay valid. */
#include "engine/graph_private.h"
#include "engine/plan.h"

#include <string.h>

typedef struct Fusion {
    int *uses;      /* by node id */
    bool *absorbed; /* by node id */
} Fusion;

static bool is_product(const Node *n) { return n->op == OP_LINEAR || n->op == OP_CONV2D; }
static bool has_residual(const Node *n) { return n->n_in > 3 && n->in[3]; }
static bool has_bias(const Node *n) { return n->n_in > 2 && n->in[2]; }

static bool can_absorb(const Fusion *f, const Node *n) { return f->uses[n->id] == 1 && !n->output && !n->backward; }

/* `n` takes over the work of `inner`, of which it was the only user. */
static void become(Fusion *f, Node *n, Node *inner) {
    f->absorbed[inner->id] = true;
    n->op = inner->op;
    n->attr = inner->attr;
    n->n_in = inner->n_in;
    memcpy(n->in, inner->in, sizeof n->in);
}

static void set_residual(Node *product, Node *residual) {
    product->in[3] = residual;
    product->n_in = 4;
}

static void fuse_scale(Fusion *f, Node *n) {
    Node *x = n->in[0];
    float alpha = n->attr.alpha;
    bool plain = x->op == OP_LINEAR && x->attr.act == ACT_NONE && !has_bias(x) && !has_residual(x);
    if (n->attr.beta != 0 || !plain || !can_absorb(f, x)) return;
    become(f, n, x);
    n->attr.alpha *= alpha;
}

/* n = product + rest. A product that has a residual already passes `rest` on to that residual when it is itself a
 * product. */
static bool fuse_residual(Fusion *f, Node *n, Node *product, Node *rest) {
    if (!is_product(product) || product->attr.act != ACT_NONE || !can_absorb(f, product)) return false;
    if (!shape_equal(product->shape, n->shape) || !shape_equal(rest->shape, n->shape) || product == rest) return false;
    if (!has_residual(product)) {
        become(f, n, product);
        set_residual(n, rest);
        return true;
    }
    Node *inner = product->in[3];
    if (!is_product(inner) || inner->attr.act != ACT_NONE || has_residual(inner)) return false;
    if (!can_absorb(f, inner) || rest->id >= inner->id) return false;
    set_residual(inner, rest);
    become(f, n, product);
    return true;
}

static void fuse_activation(Fusion *f, Node *n) {
    Node *x = n->in[0];
    Act kind = n->attr.act;
    if ((x->op != OP_GROUP_NORM && !is_product(x)) || x->attr.act != ACT_NONE || !can_absorb(f, x)) return;
    become(f, n, x);
    n->attr.act = kind;
}

static int drop_absorbed(Graph *g, const Fusion *f, Error *err) {
    Node **kept = arena_alloc(g->arena, (size_t)(g->n + 1) * sizeof *kept);
    if (!kept) return fail(err, DRPO_E_MEMORY, "out of memory while a network is fused");
    int n = 0;
    for (int id = 0; id < g->n; id++)
        if (!f->absorbed[id]) kept[n++] = g->node[id];
    graph_set_nodes(g, kept, n);
    return 0;
}

int fuse_graph(Graph *g, Error *err) {
    TRY(graph_check(g, err));
    Fusion f = {.uses = arena_alloc(g->arena, (size_t)(g->n + 1) * sizeof *f.uses),
                .absorbed = arena_alloc(g->arena, (size_t)(g->n + 1) * sizeof *f.absorbed)};
    if (!f.uses || !f.absorbed) return fail(err, DRPO_E_MEMORY, "out of memory while a network is fused");
    for (int id = 0; id < g->n; id++)
        for (int i = 0; i < g->node[id]->n_in; i++)
            if (g->node[id]->in[i]) f.uses[g->node[id]->in[i]->id]++;
    for (int id = 0; id < g->n; id++) {
        Node *n = g->node[id];
        if (n->backward) continue;
        if (n->op == OP_AFFINE) fuse_scale(&f, n);
        if (n->op == OP_ACT) fuse_activation(&f, n);
        if (n->op == OP_ADD && !fuse_residual(&f, n, n->in[1], n->in[0])) fuse_residual(&f, n, n->in[0], n->in[1]);
    }
    return drop_absorbed(g, &f, err);
}
