/* Layout: lifetimes and offsets, before anything runs.
 *
 * A result lives from the step that makes it to the last step that reads it. Views share their input's buffer; so does
 * the result of an op that may overwrite an input which dies there. Buffers are placed largest first, each into the
 * smallest gap that is free for its whole life (best fit), which comes within a few per cent of the largest sum of live
 * bytes. */
#include "engine/layout.h"
#include "engine/graph_private.h"

#include <stdlib.h>
#include <string.h>

static size_t node_bytes(const Node *n, size_t real_bytes) {
    return (size_t)shape_count(n->shape) * (n->dtype == DT_I32 ? sizeof(int32_t) : real_bytes);
}

/* Finds what the outputs need, walking from them to the leaves, and where views lead. */
static int find_needed(const Graph *g, size_t real_bytes, Layout *l, Error *err) {
    bool any = false;
    for (int id = g->n - 1; id >= 0; id--) {
        Node *n = g->node[id];
        if (n->output) l->root[id] = n, any = true;
        if (!l->root[id]) continue;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i]) l->root[n->in[i]->id] = n->in[i];
    }
    if (!any) return fail(err, DRPO_E_INTERNAL, "a graph needs at least one node marked with output() to be planned");
    for (int id = 0; id < g->n; id++) {
        Node *n = g->node[id];
        if (!l->root[id] || !op_is_view(n->op)) continue;
        l->root[id] = l->root[n->in[0]->id];
        l->shift[id] = l->shift[n->in[0]->id] + (n->op == OP_PART ? (size_t)n->attr.start * real_bytes : 0);
    }
    return 0;
}

static void make_schedule(const Graph *g, Layout *l) {
    for (int backward = 0; backward < 2; backward++) {
        for (int id = 0; id < g->n; id++) {
            Node *n = g->node[id];
            if (l->root[id] && !is_leaf(n) && n->backward == (bool)backward) l->step[l->n_step++] = n;
        }
        if (!backward) l->n_forward = l->n_step;
    }
}

/* last[id]: the last step that reads a root, through whichever view. */
static void find_last_uses(const Graph *g, const Layout *l, int *last) {
    for (int id = 0; id < g->n; id++) last[id] = -1;
    for (int t = 0; t < l->n_step; t++)
        for (int i = 0; i < l->step[t]->n_in; i++)
            if (l->step[t]->in[i]) last[l->root[l->step[t]->in[i]->id]->id] = t;
    for (int id = 0; id < g->n; id++) {
        const Node *root = l->root[id];
        if (root && (g->node[id]->output || root->op == OP_INPUT)) last[root->id] = l->n_step;
    }
}

/* The input whose buffer step t may take over, or -1: it dies here, has the same size, and no other input that the
 * kernel still reads shares it. */
static int overwritable(const Layout *l, const Node *n, int t, const int *last, size_t real_bytes) {
    for (int i = n->n_in - 1; i >= 0; i--) {
        if (!n->in[i] || !op_may_overwrite(n, i)) continue;
        const Node *root = l->root[n->in[i]->id];
        if (is_leaf(root) || last[root->id] != t || l->shift[n->in[i]->id]) continue;
        if (node_bytes(root, real_bytes) != node_bytes(n, real_bytes)) continue;
        bool shared = false;
        for (int j = 0; j < n->n_in; j++) {
            if (j == i || !n->in[j] || l->root[n->in[j]->id] != root) continue;
            if (!op_may_overwrite(n, j) || l->shift[n->in[j]->id]) shared = true;
        }
        if (!shared) return i;
    }
    return -1;
}

static int new_buffer(Layout *l, size_t bytes, int birth, int death) {
    l->buffer[l->n_buffer] = (Buffer){.bytes = align_up(bytes), .birth = birth, .death = death};
    return l->n_buffer++;
}

static void make_buffers(const Graph *g, Layout *l, const int *last, size_t real_bytes) {
    for (int id = 0; id < g->n; id++) {
        l->holder[id] = -1;
        if (l->root[id] && g->node[id]->op == OP_INPUT)
            l->holder[id] = new_buffer(l, node_bytes(g->node[id], real_bytes), -1, l->n_step);
    }
    for (int t = 0; t < l->n_step; t++) {
        Node *n = l->step[t];
        if (op_is_view(n->op)) {
            l->holder[n->id] = l->holder[l->root[n->id]->id];
            continue;
        }
        int death = last[n->id] > t ? last[n->id] : t;
        int i = overwritable(l, n, t, last, real_bytes);
        if (i < 0) {
            l->holder[n->id] = new_buffer(l, node_bytes(n, real_bytes), t, death);
        } else {
            l->holder[n->id] = l->holder[n->in[i]->id];
            l->buffer[l->holder[n->id]].death = death;
        }
    }
}

static int larger_first(const void *a, const void *b) {
    const Buffer *x = *(Buffer *const *)a, *y = *(Buffer *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->birth != y->birth ? (x->birth < y->birth ? -1 : 1) : (x < y ? -1 : x > y);
}

/* Best fit. `placed` is sorted by offset; returns where in it the buffer went. */
static void place(Buffer *b, Buffer **placed, int n_placed) {
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (int i = 0; i < n_placed; i++) {
        const Buffer *other = placed[i];
        if (other->death < b->birth || b->death < other->birth) continue;
        if (other->offset > end && other->offset - end >= b->bytes && other->offset - end < best_gap) {
            best = end;
            best_gap = other->offset - end;
        }
        if (other->offset + other->bytes > end) end = other->offset + other->bytes;
    }
    b->offset = best != SIZE_MAX ? best : end;
    int at = n_placed;
    while (at > 0 && placed[at - 1]->offset > b->offset) at--;
    memmove(placed + at + 1, placed + at, (size_t)(n_placed - at) * sizeof *placed);
    placed[at] = b;
}

static void place_all(Layout *l, Buffer **order, Buffer **placed) {
    for (int i = 0; i < l->n_buffer; i++) order[i] = &l->buffer[i];
    qsort(order, (size_t)l->n_buffer, sizeof(Buffer *), larger_first);
    for (int i = 0; i < l->n_buffer; i++) {
        place(order[i], placed, i);
        size_t end = order[i]->offset + order[i]->bytes;
        if (end > l->bytes) l->bytes = end;
    }
}

int layout_make(const Graph *g, size_t real_bytes, Arena *arena, Layout *out, Error *err) {
    size_t n = (size_t)g->n;
    *out = (Layout){.step = arena_alloc(arena, (n + 1) * sizeof(Node *)),
                    .buffer = arena_alloc(arena, (n + 1) * sizeof(Buffer)),
                    .root = arena_alloc(arena, (n + 1) * sizeof(Node *)),
                    .shift = arena_alloc(arena, (n + 1) * sizeof(size_t)),
                    .holder = arena_alloc(arena, (n + 1) * sizeof(int))};
    int *last = arena_alloc(arena, (n + 1) * sizeof *last);
    Buffer **order = arena_alloc(arena, (n + 1) * sizeof *order),
           **placed = arena_alloc(arena, (n + 1) * sizeof *placed);
    if (arena_failed(arena) || !placed) return fail(err, DRPO_E_MEMORY, "out of memory while a run is planned");
    TRY(find_needed(g, real_bytes, out, err));
    make_schedule(g, out);
    find_last_uses(g, out, last);
    make_buffers(g, out, last, real_bytes);
    place_all(out, order, placed);
    return 0;
}
