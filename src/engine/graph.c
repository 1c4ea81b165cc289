/* Graph: the list of nodes, how one is appended, and the first mistake.
 *
 * append() is the only door: it checks arity and element types, asks ops.def's rule for the shape, and gives the node
 * its place in the list, so that a node's inputs always come before it. */
#include "engine/graph_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const OpInfo *op_info(Op op) {
    static const OpInfo info[OP_COUNT] = {
#define OP(NAME, FEWEST, MOST, SHAPE, VJP) [OP_##NAME] = {#NAME, FEWEST, MOST, SHAPE, VJP},
#include "engine/ops.def"
#undef OP
    };
    return &info[op];
}

const char *op_name(Op op) { return (unsigned)op < OP_COUNT ? op_info(op)->name : "?"; }

Graph *graph_new(Arena *a) {
    Graph *g = a ? arena_alloc(a, sizeof *g) : NULL;
    if (g) g->arena = a;
    return g;
}

Arena *graph_arena(Graph *g) { return g->arena; }
int graph_size(const Graph *g) { return g->n; }
Value graph_node(const Graph *g, int id) { return id >= 0 && id < g->n ? g->node[id] : NULL; }
void graph_segment(Graph *g, int segment) { g->segment = segment; }

void graph_mistake(Graph *g, const char *format, ...) {
    if (g->mistake.code) return;
    va_list args;
    va_start(args, format);
    char text[sizeof g->mistake.text];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(&g->mistake, DRPO_E_INPUT, "%s", text);
}

static void *graph_out_of_memory(Graph *g) {
    fail(&g->mistake, DRPO_E_MEMORY, "out of memory while a network is laid out");
    return NULL;
}

int graph_check(const Graph *g, Error *err) {
    if (!g) return fail(err, DRPO_E_MEMORY, "out of memory while a network is laid out");
    if (g->mistake.code) return fail(err, g->mistake.code, "%s", g->mistake.text);
    return 0;
}

/* Makes room for one more pointer; lists live in the arena, so that growing leaves the old block behind. */
static bool grow(Graph *g, Node ***list, int n, int *capacity) {
    if (n < *capacity) return true;
    int bigger = *capacity ? 2 * *capacity : 256;
    Node **moved = arena_alloc(g->arena, (size_t)bigger * sizeof *moved);
    if (!moved) return false;
    if (n) memcpy(moved, *list, (size_t)n * sizeof *moved);
    *list = moved;
    *capacity = bigger;
    return true;
}

Value graph_push(Graph *g, const Node *n) {
    Node *copy = grow(g, &g->node, g->n, &g->capacity) ? arena_alloc(g->arena, sizeof *copy) : NULL;
    if (!copy) return graph_out_of_memory(g);
    *copy = *n;
    copy->id = g->n;
    g->node[g->n++] = copy;
    return copy;
}

void graph_set_nodes(Graph *g, Node **node, int n) {
    g->node = node;
    g->n = g->capacity = n;
    for (int i = 0; i < n; i++) node[i]->id = i;
}

/* "LINEAR([2, 77, 64], weight 'to_q.weight' [64, 64])" */
static void describe(const Node *n, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "%s(", op_name(n->op));
    for (int i = 0; i < n->n_in && used < size; i++) {
        char shape[96];
        const Node *x = n->in[i];
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", i ? ", " : "", x && x->name ? x->name : "",
                                 x && x->name ? " " : "", x ? shape_text(x->shape, shape) : "none");
    }
    if (used < size) snprintf(text + used, size - used, ")");
}

/* Every real value is float32 to the graph; integers name rows of a table or random numbers. */
static bool inputs_fit(Graph *g, const Node *n) {
    const OpInfo *info = op_info(n->op);
    if (n->n_in < info->fewest || n->n_in > info->most) {
        graph_mistake(g, "%s takes %d to %d inputs, not %d", info->name, info->fewest, info->most, n->n_in);
        return false;
    }
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) {
            if (i >= info->fewest) continue;
            graph_mistake(g, "%s: input %d is missing", info->name, i);
            return false;
        }
        bool ids = ((n->op == OP_EMBED || n->op == OP_EMBED_GRAD) && i == 0) || (n->op == OP_DROPOUT && i == 1);
        bool convolution_weight = i == 1 && (n->op == OP_CONV2D || n->op == OP_CONV2D_DX);
        const char *name = n->in[i]->name ? n->in[i]->name : "?";
        if (ids != (n->in[i]->dtype == DT_I32)) {
            graph_mistake(g, "%s: input %d (%s) has type %s", info->name, i, name, dtype_name(n->in[i]->dtype));
            return false;
        }
        if (n->in[i]->op == OP_PARAM && n->in[i]->shape.rank == 4 && !convolution_weight) {
            graph_mistake(g, "%s: '%s' has rank 4 and can only be a convolution's weight", info->name, name);
            return false;
        }
    }
    return true;
}

Value append(Graph *g, Op op, Attr attr, const Value *in, int n_in, Shape target) {
    if (!g || g->mistake.code) return NULL;
    Node n = {.op = op, .dtype = DT_F32, .attr = attr, .n_in = n_in, .segment = g->segment, .backward = g->backward};
    if (n_in > MAX_INPUTS) n.n_in = MAX_INPUTS;
    for (int i = 0; i < n.n_in; i++) {
        n.in[i] = in[i];
        if (in[i] && in[i]->backward) n.backward = true;
    }
    if (!inputs_fit(g, &n)) return NULL;
    char reason[REASON] = "";
    bool ok = op_info(op)->shape(&n, target, reason);
    for (int i = 0; ok && i < n.shape.rank; i++)
        if (n.shape.dim[i] < 1) ok = false;
    if (!ok) {
        char what[512], shape[96];
        describe(&n, what, sizeof what);
        graph_mistake(g, "%s: %s", what, reason[0] ? reason : shape_text(n.shape, shape));
        return NULL;
    }
    return graph_push(g, &n);
}

Value input(Graph *g, const char *name, DType dtype, Shape shape) {
    if (!g || g->mistake.code) return NULL;
    if (dtype != DT_F32 && dtype != DT_I32) {
        graph_mistake(g, "input '%s' has type %s; inputs are F32 or I32", name, dtype_name(dtype));
        return NULL;
    }
    Value x = append(g, OP_INPUT, (Attr){0}, NULL, 0, shape);
    if (!x) return NULL;
    x->dtype = dtype;
    x->name = arena_strdup(g->arena, name);
    return x->name ? x : graph_out_of_memory(g);
}

Value param(Graph *g, Param *p) {
    if (!g || g->mistake.code) return NULL;
    if (!p) {
        graph_mistake(g, "a weight is missing");
        return NULL;
    }
    for (int i = 0; i < g->n_params; i++)
        if (g->params[i]->param == p) return g->params[i];
    if (!grow(g, &g->params, g->n_params, &g->params_capacity)) return graph_out_of_memory(g);
    Value x = append(g, OP_PARAM, (Attr){0}, NULL, 0, p->shape);
    if (!x) return NULL;
    x->param = p;
    x->name = p->name;
    x->segment = 0;
    return g->params[g->n_params++] = x;
}

Value graph_find(const Graph *g, const char *name) {
    for (int i = 0; i < g->n; i++) {
        Node *n = g->node[i];
        if ((n->op == OP_INPUT || n->output) && n->name && strcmp(n->name, name) == 0) return n;
    }
    return NULL;
}

Value set_name(Graph *g, Value x, const char *format, ...) {
    if (!x) return NULL;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    x->name = arena_strdup(g->arena, text);
    return x->name ? x : graph_out_of_memory(g);
}

Value output(Graph *g, Value x, const char *name) {
    if (!x) return NULL;
    if (x->op == OP_PARAM && x->shape.rank == 4) {
        graph_mistake(g, "'%s' cannot be an output: convolution weights stay in their file's order", x->name);
        return NULL;
    }
    /* A leaf or an output that has a name already keeps it: the second name goes to a view. */
    if (x->output || is_leaf(x)) x = append(g, OP_RESHAPE, (Attr){0}, &x, 1, x->shape);
    if (!x) return NULL;
    x->output = true;
    return name ? set_name(g, x, "%s", name) : x;
}
