/* Plan: the layout of a graph plus one prepared kernel per node that computes.
 *
 * Memory is one block: [activations | workspace of the hungriest kernel]. Weights are not part of it; their addresses
 * come from the backend and stay the same for the plan's life, also while an optimizer changes trainable ones. */
#include "engine/plan_private.h"

size_t plan_measure(const Graph *g, const Backend *b) {
    Layout layout;
    Arena *arena = arena_new();
    size_t bytes = arena && layout_make(g, b->real_bytes, arena, &layout, NULL) == 0 ? layout.bytes : 0;
    arena_free(arena);
    return bytes;
}

void *plan_address(const Plan *p, const Node *n) {
    const Node *root = p->layout.root[n->id];
    if (!root) return NULL;
    char *start = root->op == OP_PARAM ? p->weight[root->id] : NULL;
    int holder = p->layout.holder[root->id];
    if (holder >= 0 && p->memory) start = p->memory + p->layout.buffer[holder].offset;
    return start ? start + p->layout.shift[n->id] : NULL;
}

static int prepare_step(Plan *p, Step *s, Error *err) {
    Backend *b = p->backend;
    const Node *n = s->node;
    char shape[96];
    if (op_is_view(n->op)) return 0;
    if (!b->supports(b, n))
        return fail(err, DRPO_E_INTERNAL, "backend %s has no kernel for %s of shape %s", b->name, op_name(n->op),
                    shape_text(n->shape, shape));
    int code = b->prepare(b, n, &s->kernel, err);
    if (code < 0) {
        fail(err, code, "backend %s could not prepare a kernel", b->name);
        return fail_in(err, "%s %s%s%s", op_name(n->op), shape_text(n->shape, shape), n->name ? " " : "",
                       n->name ? n->name : "");
    }
    p->n_kernel++;
    return 0;
}

static int fetch_weight(Plan *p, const Node *root, Error *err) {
    void *address = NULL;
    if (p->weight[root->id]) return 0;
    TRY(p->backend->param(p->backend, root->param, &address, err));
    p->weight[root->id] = address;
    p->param[root->id] = root->param;
    return 0;
}

/* Weights that a kernel has packed are not asked for: their unpacked values need not exist in the backend at all. */
static int fetch_weights(Plan *p, const Step *s, Error *err) {
    for (int i = 0; i < s->node->n_in; i++) {
        const Node *x = s->node->in[i];
        const Node *root = x ? p->layout.root[x->id] : NULL;
        if (root && root->op == OP_PARAM) root->param->planned = true;
        if (!root || root->op != OP_PARAM || s->kernel.packed >> i & 1u) continue;
        TRY(fetch_weight(p, root, err));
    }
    return 0;
}

static int prepare_all(Plan *p, const Graph *g, Error *err) {
    size_t workspace = 0;
    for (int i = 0; i < p->layout.n_step; i++) {
        Step *s = &p->step[p->n_step++];
        s->node = p->layout.step[i];
        TRY(prepare_step(p, s, err));
        TRY(fetch_weights(p, s, err));
        if (s->kernel.workspace > workspace) workspace = s->kernel.workspace;
    }
    for (int id = 0; id < g->n; id++) { /* outputs that are views of a weight */
        Node *root = g->node[id]->output ? p->layout.root[id] : NULL;
        if (root && root->op == OP_PARAM) TRY(fetch_weight(p, root, err));
    }
    p->n_forward = p->layout.n_forward;
    p->workspace_at = align_up(p->layout.bytes);
    p->peak = p->workspace_at + align_up(workspace);
    return 0;
}

int plan_new(Graph *g, Backend *b, Plan **out, Error *err) {
    *out = NULL;
    TRY(graph_check(g, err));
    Arena *arena = arena_new();
    Plan *p = arena ? arena_alloc(arena, sizeof *p) : NULL;
    if (!p) {
        arena_free(arena);
        return fail(err, DRPO_E_MEMORY, "out of memory while a run is planned");
    }
    p->arena = arena;
    p->backend = b;
    int code = layout_make(g, b->real_bytes, arena, &p->layout, err);
    if (code == 0) {
        p->step = arena_alloc(arena, (size_t)(p->layout.n_step + 1) * sizeof *p->step);
        p->weight = arena_alloc(arena, (size_t)(g->n + 1) * sizeof *p->weight);
        p->param = arena_alloc(arena, (size_t)(g->n + 1) * sizeof *p->param);
        bool all = p->step && p->weight && p->param;
        p->n_weight = all ? g->n : 0;
        code = all ? prepare_all(p, g, err) : fail(err, DRPO_E_MEMORY, "out of memory while a run is planned");
    }
    if (code < 0) {
        plan_free(p);
        return code;
    }
    *out = p;
    return 0;
}

void plan_release_memory(Plan *p) {
    if (p->owns_memory) p->backend->free(p->backend, p->memory, p->peak ? p->peak : BUFFER_ALIGN);
    p->memory = NULL;
    p->owns_memory = false;
}

void plan_free(Plan *p) {
    if (!p) return;
    plan_release_memory(p);
    for (int i = 0; i < p->n_step; i++)
        if (p->step[i].kernel.release) p->step[i].kernel.release(&p->step[i].kernel);
    for (int id = 0; id < p->n_weight; id++)
        if (p->weight[id]) p->backend->forget(p->backend, p->param[id], p->weight[id]);
    arena_free(p->arena);
}

size_t plan_peak(const Plan *p) { return p->peak; }
int plan_kernels(const Plan *p) { return p->n_kernel; }
