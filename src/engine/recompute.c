/* Recompute: trade a second forward pass through some segments for the memory of their activations.
 *
 * A segment (a resnet or transformer block) keeps its inputs; the values inside it that the backward pass reads are
 * computed again, by clones of their nodes, right before the first backward node that reads one. The same kernels run
 * on the same numbers, so that gradients do not change by a bit. Segments are chosen one at a time: whichever frees
 * most bytes at the moment of the peak, until the peak fits the budget. */
#include "engine/graph_private.h"
#include "engine/layout.h"
#include "engine/plan.h"

/* What one choice needs to know about the graph as it is now; all arrays by node id. */
typedef struct Survey {
    Graph *g;
    size_t real_bytes;
    Layout layout;
    Arena *arena;
    int *step;         /* when the node runs; -1: a leaf or not needed */
    int *last_forward; /* of roots: last forward step that reads it through any view */
    int *last;         /* of roots: last step that reads it; outputs: after the end */
    bool *escapes;     /* read by forward nodes of other segments: stays stored */
    bool *wanted;      /* scratch: nodes of the segment at hand that must be cloned */
    int peak_step;
    int n_segments;
} Survey;

static int make_survey(Survey *s, Graph *g, size_t real_bytes, Error *err) {
    size_t n = (size_t)g->n + 1;
    *s = (Survey){.g = g, .real_bytes = real_bytes, .arena = arena_new()};
    if (!s->arena) return fail(err, DRPO_E_MEMORY, "out of memory while recomputation is planned");
    TRY(layout_make(g, real_bytes, s->arena, &s->layout, err));
    s->step = arena_alloc(s->arena, n * sizeof(int));
    s->last_forward = arena_alloc(s->arena, n * sizeof(int));
    s->last = arena_alloc(s->arena, n * sizeof(int));
    s->escapes = arena_alloc(s->arena, n * sizeof(bool));
    s->wanted = arena_alloc(s->arena, n * sizeof(bool));
    if (arena_failed(s->arena)) return fail(err, DRPO_E_MEMORY, "out of memory while recomputation is planned");
    return 0;
}

static void find_uses(Survey *s) {
    const Layout *l = &s->layout;
    for (int id = 0; id < s->g->n; id++) {
        s->step[id] = s->last[id] = s->last_forward[id] = -1;
        if (s->g->node[id]->segment > s->n_segments) s->n_segments = s->g->node[id]->segment;
    }
    for (int t = 0; t < l->n_step; t++) {
        const Node *n = l->step[t];
        s->step[n->id] = t;
        for (int i = 0; i < n->n_in; i++) {
            if (!n->in[i]) continue;
            const Node *root = l->root[n->in[i]->id];
            s->last[root->id] = t;
            if (n->backward) continue;
            s->last_forward[root->id] = t;
            if (n->segment != n->in[i]->segment) s->escapes[n->in[i]->id] = true;
        }
    }
    for (int id = 0; id < s->g->n; id++) {
        if (!s->g->node[id]->output || !l->root[id]) continue;
        s->escapes[id] = true;
        s->last[l->root[id]->id] = l->n_step;
    }
    for (int id = s->g->n - 1; id >= 0; id--) { /* a view that stays stored keeps what it shows */
        const Node *n = s->g->node[id];
        if (s->escapes[id] && op_is_view(n->op)) s->escapes[n->in[0]->id] = true;
    }
}

/* The step with the largest sum of live bytes. */
static int find_peak(Survey *s) {
    const Layout *l = &s->layout;
    size_t live = 0, most = 0;
    size_t *change = arena_alloc(s->arena, ((size_t)l->n_step + 2) * 2 * sizeof *change);
    if (!change) return 0;
    size_t *starts = change, *ends = change + l->n_step + 2;
    for (int i = 0; i < l->n_buffer; i++) {
        starts[l->buffer[i].birth < 0 ? 0 : l->buffer[i].birth] += l->buffer[i].bytes;
        ends[l->buffer[i].death] += l->buffer[i].bytes;
    }
    int peak = 0;
    for (int t = 0; t < l->n_step; t++) {
        live += starts[t];
        if (live > most) most = live, peak = t;
        live -= ends[t];
    }
    return peak;
}

static bool belongs(const Survey *s, const Node *n, int segment) {
    return n->segment == segment && !n->backward && !is_leaf(n) && s->step[n->id] >= 0 && !s->escapes[n->id];
}

/* Marks the segment's nodes that clones must stand in for and returns the step of the first backward node that reads
 * one (n_step: none). */
static int find_wanted(Survey *s, int segment) {
    const Layout *l = &s->layout;
    int first = l->n_step;
    for (int id = 0; id < s->g->n; id++) s->wanted[id] = false;
    for (int t = l->n_step - 1; t >= 0; t--) {
        const Node *n = l->step[t];
        bool reader = n->backward || s->wanted[n->id];
        for (int i = 0; reader && i < n->n_in; i++) {
            if (!n->in[i] || !belongs(s, n->in[i], segment)) continue;
            s->wanted[n->in[i]->id] = true;
            if (n->backward) first = t;
        }
    }
    return first;
}

static long long bytes_of(const Survey *s, const Node *root) {
    return (long long)align_up((size_t)shape_count(root->shape) * s->real_bytes);
}

/* Bytes that recomputing the segment frees at the peak: values that only the backward pass keeps alive there, less the
 * inputs that clones keep alive in their place. */
static long long saving(Survey *s, int segment) {
    const Layout *l = &s->layout;
    int peak = s->peak_step, first = find_wanted(s, segment);
    long long bytes = 0;
    bool *charged = arena_alloc(s->arena, (size_t)s->g->n + 1);
    if (first <= peak || first == l->n_step || !charged) return 0;
    for (int id = 0; id < s->g->n; id++) {
        const Node *n = s->g->node[id];
        if (!s->wanted[id]) continue;
        if (l->root[id] == n && s->step[id] < peak && s->last[id] > peak && s->last_forward[id] < peak)
            bytes += bytes_of(s, n);
        for (int i = 0; i < n->n_in; i++) {
            const Node *root = n->in[i] ? l->root[n->in[i]->id] : NULL;
            if (!root || is_leaf(root) || charged[root->id] || s->wanted[root->id]) continue;
            charged[root->id] = true;
            if (s->last[root->id] < peak) bytes -= bytes_of(s, root);
        }
    }
    return bytes;
}

/* Puts clones of the wanted nodes in front of the first backward reader and makes backward nodes read the clones. */
static int clone_segment(Survey *s, int segment, Error *err) {
    Graph *g = s->g;
    int first = find_wanted(s, segment), n = 0;
    Node **list = arena_alloc(g->arena, ((size_t)2 * (size_t)g->n + 1) * sizeof *list);
    Node **clone = arena_alloc(s->arena, ((size_t)g->n + 1) * sizeof *clone);
    if (!list || !clone) return fail(err, DRPO_E_MEMORY, "out of memory while recomputation is planned");
    for (int id = 0; id < g->n; id++) {
        Node *old = g->node[id];
        if (old == s->layout.step[first]) {
            for (int k = 0; k < g->n; k++)
                if (clone[k]) list[n++] = clone[k];
        }
        list[n++] = old;
        for (int i = 0; old->backward && i < old->n_in; i++)
            if (old->in[i] && clone[old->in[i]->id]) old->in[i] = clone[old->in[i]->id];
        if (!s->wanted[id]) continue;
        Node *copy = clone[id] = arena_alloc(g->arena, sizeof *copy);
        if (!copy) return fail(err, DRPO_E_MEMORY, "out of memory while recomputation is planned");
        *copy = *old;
        copy->segment = 0;
        copy->backward = true;
        for (int i = 0; i < copy->n_in; i++)
            if (copy->in[i] && clone[copy->in[i]->id]) copy->in[i] = clone[copy->in[i]->id];
    }
    graph_set_nodes(g, list, n);
    return 0;
}

static int best_segment(Survey *s, int peak_step) {
    int best = 0;
    long long most = 0;
    s->peak_step = peak_step;
    for (int segment = 1; segment <= s->n_segments; segment++) {
        long long bytes = saving(s, segment);
        if (bytes > most) most = bytes, best = segment;
    }
    return best;
}

/* One round: *done when the peak fits; otherwise one more segment is recomputed. */
static int recompute_one(Survey *s, size_t budget, size_t *peak, bool *done, Error *err) {
    *peak = s->layout.bytes;
    *done = budget == 0 || *peak <= budget;
    if (*done) return 0;
    find_uses(s);
    int best = best_segment(s, find_peak(s));
    if (!best) best = best_segment(s, s->layout.n_forward - 1); /* gaps between buffers may hide what the peak needs */
    if (best) return clone_segment(s, best, err);
    return fail(err, DRPO_E_MEMORY,
                "activations need %.1f MiB even with full recomputation, the budget is %.1f MiB: lower the chunk size",
                (double)*peak / (1 << 20), (double)budget / (1 << 20));
}

int recompute_graph(Graph *g, const Backend *b, size_t budget, size_t *peak, Error *err) {
    bool done = false;
    TRY(graph_check(g, err));
    while (!done) {
        Survey s;
        int code = make_survey(&s, g, b->real_bytes, err);
        if (code == 0) code = recompute_one(&s, budget, peak, &done, err);
        arena_free(s.arena);
        TRY(code);
    }
    return 0;
}
